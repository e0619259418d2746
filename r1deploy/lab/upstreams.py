"""The upstream repositories of the lab: real git histories made of the stand-in sources.

FlagScale's history has the shape that matters: a base commit, the commit that
brings the vendor's patch, and a newer one whose patch is of no use here but is
what unpatch.py takes when nobody tells it a commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1deploy.lab import images, places, thismachine, vendorkey
from r1deploy.lab.places import Layout
from r1deploy.lab.realupstreams import Upstream, full_commit, gitlink, submodule_url

Say = Callable[[str], None]
SHAPE = 2  # raised when the histories below change
DEVICE = "BI_V150"
TAG = "deepseek_release_iluvatar"
# A second vendor, whose patch is in plain text and whose vLLM is built by setup.py.
PLAIN_DEVICE, PLAIN_TAG = "Metax_C550", "deepseek_release_metax"
EXECUTABLE = {"clean_vllm.sh", "build_vllm.sh", "install_vllm.sh"}


class Work:
    """A work tree whose commits come out the same every time."""

    def __init__(self, folder: Path, source: str | None = None) -> None:
        """An empty repository, or with ``source`` (a URL or a clone) a clone of it."""
        self.folder = folder
        self.count = 0
        folder.mkdir(parents=True)
        if source is None:
            self.git("init", "--quiet", "--initial-branch=main")
        else:
            self.git("clone", "--quiet", "--no-local", source, ".")
            self.git("checkout", "--quiet", "-B", "main")

    def git(self, *argv: str) -> str:
        when = f"{1_749_600_000 + 3600 * self.count} +0000"
        fixed = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "GIT_CONFIG_GLOBAL": os.devnull}
        who = ["user.name=r1deploy lab", "user.email=lab@r1deploy.invalid", "core.autocrlf=false", "gc.auto=0"]
        options = [part for setting in who for part in ("-c", setting)]
        pairs = [f"{name}={value}" for name, value in fixed.items()]
        return thismachine.run(["env", *pairs, "git", "-C", str(self.folder), *options, *argv]).strip()

    def lay(self, source: Path) -> None:
        """Copy a stand-in folder over the tree."""
        for path in images.source_files(source):
            target = self.folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o755 if path.name in EXECUTABLE else 0o644)

    def write(self, path: str, data: str | bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)

    def commit(self, message: str) -> str:
        self.count += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def diff_of(self, overlay: Path, at: str) -> bytes:
        """What the overlay changes at a commit, as a patch; the tree is left as it was."""
        self.git("checkout", "--quiet", "--detach", at)
        self.lay(overlay)
        self.git("add", "--all")
        text = self.git("diff", "--cached", "--binary", at)
        self.git("reset", "--quiet", "--hard", at)
        self.git("checkout", "--quiet", "main")
        return (text + "\n").encode()


@dataclass(frozen=True)
class Made:
    """What a user's settings have to say of the repositories: the patch's commit, URLs that go elsewhere.

    ``plain`` is the commit with the second vendor's patch; the stand-in alone has one.
    """

    patch: str
    instead_of: Mapping[str, str]
    plain: str = ""


def digest(layout: Layout, key: Any, patch: str, given: Mapping[str, Upstream]) -> str:
    """Everything the repositories are made from."""
    words = [str(SHAPE), places.upstream_address(), vendorkey.fingerprint(key), patch]
    words += sorted(upstream.text for upstream in given.values())
    found = hashlib.sha256(" ".join(words).encode())
    for part in ("flaggems", "vllm", "flagscale", "patches", "patches-metax"):
        found.update(images.folder_digest(places.standins() / part))
    return found.hexdigest()


def plain_patch(layout: Layout) -> str:
    """The commit with the second vendor's patch, of repositories that are there."""
    return str(json.loads((layout.upstreams / "state.json").read_text())["plain"])


def ensure(layout: Layout, vllm_patch: str, given: Mapping[str, Upstream], say: Say) -> Made:
    """The repositories are there and fit the sources.

    In: the folder below ``standins/patches`` that holds the vendor's half of vLLM;
    the real upstreams to use in place of stand-ins.
    """
    key = vendorkey.ensure(layout)
    state = layout.upstreams / "state.json"
    wanted = digest(layout, key, vllm_patch, given)
    if state.is_file():
        found = json.loads(state.read_text())
        whole = all((layout.upstreams / f"{name}.git").is_dir() for name in places.REPOSITORIES)
        if whole and found["digest"] == wanted:
            return Made(found["patch"], found["instead_of"], found["plain"])
    layout.upstreams.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=layout.folder) as temporary:
        made = make(Path(temporary), key, vllm_patch, given)
        for name in places.REPOSITORIES:
            publish(Path(temporary) / name, layout.upstreams / f"{name}.git")
    state.write_text(
        json.dumps({"digest": wanted, "patch": made.patch, "instead_of": made.instead_of, "plain": made.plain}) + "\n"
    )
    real = f", the real {' and '.join(sorted(given))} among them" if given else ""
    say(f"made the upstream repositories in {layout.upstreams}{real}")
    return made


def make(folder: Path, key: Any, vllm_patch: str, given: Mapping[str, Upstream]) -> Made:
    make_flaggems(folder / "FlagGems")
    overlay = places.standins() / "patches" / vllm_patch
    if "FlagScale" in given:
        return make_on_real(folder, key, overlay, given)
    vllm, base, linked = make_vllm(folder / "vllm")
    patch, plain = make_flagscale(folder / "FlagScale", key, vllm, overlay, base, linked)
    return Made(patch, {}, plain)


def make_on_real(folder: Path, key: Any, overlay: Path, given: Mapping[str, Upstream]) -> Made:
    """The lab as the vendor: its patches against the real FlagScale, and the commit that brings them."""
    scale = Work(folder / "FlagScale", given["FlagScale"].url)
    base = full_commit(scale.folder, given["FlagScale"].commit)
    scale.git("checkout", "--quiet", "-B", "main", base)
    if "vllm" in given:
        vllm = Work(folder / "vllm", given["vllm"].url)
        vllm_base = linked = gitlink(scale.folder, base, "vllm")
    else:
        vllm, vllm_base, linked = make_vllm(folder / "vllm")
        base = commit_with_link(scale, linked, "r1deploy lab: vLLM is the lab's stand-in")
    patches = {
        "vllm": vllm.diff_of(overlay, vllm_base),
        "FlagScale": scale.diff_of(places.standins() / "patches" / "flagscale", base),
    }
    write_vendor(scale, key, patches, base, vllm_base, ["ds"], "inference")
    patch = commit_with_link(scale, linked, "r1deploy lab: a vendor's patch of the lab's own")
    url = submodule_url(scale.folder, base, "vllm")
    return Made(patch, {url: f"git://{places.upstream_address()}/vllm.git"})


def make_flaggems(folder: Path) -> None:
    work = Work(folder)
    work.write("README.md", "# FlagGems: a stand-in of the r1deploy lab\n")
    work.commit("Begin")
    work.lay(places.standins() / "flaggems")
    work.commit("Release for DeepSeek on Iluvatar")
    work.git("tag", "--annotate", TAG, "--message", "DeepSeek on Iluvatar")
    work.git("tag", "--annotate", PLAIN_TAG, "--message", "DeepSeek on Metax")
    work.write("CHANGES.md", "The branch goes on after the tag.\n")
    work.commit("Go on after the tag")


def make_vllm(folder: Path) -> tuple[Work, str, str]:
    """The repository, the commit the vendor patched, and the one that FlagScale's gitlink names."""
    work = Work(folder)
    work.write("README.md", "# vLLM: a stand-in of the r1deploy lab\n")
    work.commit("Begin")
    work.lay(places.standins() / "vllm")
    base = work.commit("Release 0.7.3")
    work.write("CHANGES.md", "Later than the vendor's base.\n")
    linked = work.commit("Go on after 0.7.3")
    work.write("CHANGES.md", "Later still.\n")
    work.commit("Go on")
    return work, base, linked


def make_flagscale(folder: Path, key: Any, vllm: Work, overlay: Path, vllm_base: str, linked: str) -> tuple[str, str]:
    """The repository; returns the commits with the first vendor's patch and with the second's."""
    work = Work(folder)
    work.write("README.md", "# FlagScale: a stand-in of the r1deploy lab\n")
    work.commit("Begin")
    work.lay(places.standins() / "flagscale")
    work.write(".gitmodules", gitmodules())
    base = commit_with_link(work, linked, "Serve DeepSeek-R1")
    patches = {
        "vllm": vllm.diff_of(overlay, vllm_base),
        "FlagScale": work.diff_of(places.standins() / "patches" / "flagscale", base),
    }
    write_vendor(work, key, patches, base, vllm_base, ["ds", "minicpm-o", "ds-distill-qwen"], "inference")
    patch = commit_with_link(work, linked, "[ILUVATAR] Add iluvatar support")
    write_history(work, [patch])
    commit_with_link(work, linked, "Record the patch")
    useless = dict.fromkeys(patches, b"this patch is for training llama3-70b and fits nothing here\n")
    write_vendor(work, key, useless, base, vllm_base, ["llama3-70b"], "train")
    newer = commit_with_link(work, linked, "[ILUVATAR] llama3-70b training")
    write_history(work, [patch, newer])
    commit_with_link(work, linked, "Record the newer patch")
    patches = {
        "vllm": vllm.diff_of(plain_overlay(folder.parent / "plain"), vllm_base),
        "FlagScale": work.diff_of(places.standins() / "patches-metax" / "flagscale", base),
    }
    write_vendor(work, None, patches, base, vllm_base, ["deepseek_r1"], "inference", PLAIN_DEVICE)
    return patch, commit_with_link(work, linked, "[Metax_C550] DeepSeek-R1")


def plain_overlay(folder: Path) -> Path:
    """The second vendor's vLLM: the light engine without the first one's scripts and source, with env.sh."""
    left_out = shutil.ignore_patterns("*.sh", "iluvatar.c", "__pycache__")
    shutil.copytree(places.standins() / "patches" / "vllm", folder, ignore=left_out)
    return Path(shutil.copytree(places.standins() / "patches-metax" / "vllm", folder, dirs_exist_ok=True))


def commit_with_link(work: Work, linked: str, message: str) -> str:
    """Commit all, with the submodule's gitlink (no work tree of it is needed)."""
    work.count += 1
    work.git("add", "--all")
    work.git("update-index", "--add", "--cacheinfo", f"160000,{linked},third_party/vllm")
    work.git("commit", "--quiet", "--message", message)
    (work.folder / "third_party" / "vllm").mkdir(parents=True, exist_ok=True)
    return work.git("rev-parse", "HEAD")


def gitmodules() -> str:
    lines = ['[submodule "third_party/vllm"]', "\tpath = third_party/vllm"]
    lines += [f"\turl = git://{places.upstream_address()}/vllm.git", "\tbranch = main", ""]
    return "\n".join(lines)


def write_vendor(
    work: Work,
    key: Any,
    patches: dict[str, bytes],
    base: str,
    vllm_base: str,
    models: list[str],
    task: str,
    device: str = DEVICE,
) -> None:
    """hardware/<device>/<backend>/: what is patched, and the patch under the vendor's key (None: in plain text)."""
    facts = {
        "backends_commit": {"vllm": vllm_base},
        "backends_version": {"FlagScale": "0.8.0", "vllm": "0.7.3"},
        "commit": base,
        "contact": "lab@r1deploy.invalid",
        "device_type": device,
        "models": models,
        "task": [task],
    }
    for name, plain in patches.items():
        place = f"hardware/{device}/{name}"
        # JSON is YAML, and needs no YAML library here.
        work.write(f"{place}/diff.yaml", json.dumps(facts, indent=2) + "\n")
        if key is None:
            work.write(f"{place}/diff.patch", plain)
        else:
            work.write(f"{place}/diff.patch.encrypted", vendorkey.encrypt(key, plain))


def write_history(work: Work, commits: list[str]) -> None:
    listed = dict.fromkeys(("FlagScale+vllm", "vllm", "FlagScale"), commits)
    work.write("hardware/patch_history.yaml", json.dumps({DEVICE: {"inference": listed}}, indent=2) + "\n")


def publish(work: Path, target: Path) -> None:
    """A bare repository under its public name, swapped in whole."""
    bare = work.parent / f"{work.name}.bare"
    thismachine.run(["git", "clone", "--quiet", "--bare", "--no-local", str(work), str(bare)])
    for setting in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        thismachine.run(["git", "-C", str(bare), "config", setting, "true"])
    thismachine.run(["git", "-C", str(bare), "remote", "remove", "origin"])
    (bare / "description").write_text("stand-in of the r1deploy lab\n")
    shutil.rmtree(target, ignore_errors=True)
    bare.rename(target)
