"""The upstream repositories of the lab: real git histories made of the stand-in sources.

FlagScale's history has the shape that matters: a base commit, the commit that
brings the vendor's patch, and a newer one whose patch is of no use here but is
what unpatch.py takes when nobody tells it a commit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r1deploy.lab import images, places, thismachine, vendorkey
from r1deploy.lab.gitwork import Work
from r1deploy.lab.places import Layout
from r1deploy.lab.realupstreams import Upstream, full_commit, gitlink, submodule_url

Say = Callable[[str], None]
SHAPE = 2  # raised when the histories below change
DEVICE = "BI_V150"
TAG = "deepseek_release_iluvatar"
# A second vendor, whose patch is in plain text and whose vLLM is built by setup.py.
PLAIN_DEVICE, PLAIN_TAG = "Metax_C550", "deepseek_release_metax"


@dataclass(frozen=True)
class Made:
    """What a user's settings have to say of the repositories: the patch's commit, URLs that go elsewhere.

    ``plain`` is the commit with the second vendor's patch; the stand-in alone has one.
    """

    patch: str
    instead_of: Mapping[str, str]
    plain: str = ""


@dataclass(frozen=True)
class Vllm:
    """vLLM's repository: the commit that the vendor patched, and the one that FlagScale's gitlink names."""

    work: Work
    base: str
    linked: str


@dataclass(frozen=True)
class VendorPatch:
    """What a vendor adds to FlagScale: its patches by repository, what they are made against and for."""

    patches: Mapping[str, bytes]
    base: str
    vllm_base: str
    models: Sequence[str]
    task: str = "inference"
    device: str = DEVICE

    def facts(self) -> dict[str, object]:
        """What ``diff.yaml`` says beside each patch."""
        return {
            "backends_commit": {"vllm": self.vllm_base},
            "backends_version": {"FlagScale": "0.8.0", "vllm": "0.7.3"},
            "commit": self.base,
            "contact": "lab@r1deploy.invalid",
            "device_type": self.device,
            "models": list(self.models),
            "task": [self.task],
        }


def digest(layout: Layout, key: Any, patch: str, real: Mapping[str, Upstream]) -> str:
    """Everything the repositories are made from."""
    words = [str(SHAPE), places.upstream_address(), vendorkey.fingerprint(key), patch]
    words += sorted(upstream.text for upstream in real.values())
    hashed = hashlib.sha256(" ".join(words).encode())
    for part in ("flaggems", "vllm", "flagscale", "patches", "patches-metax"):
        hashed.update(images.folder_digest(places.standins() / part))
    return hashed.hexdigest()


def plain_patch(layout: Layout) -> str:
    """The commit with the second vendor's patch, of repositories that are there."""
    return str(json.loads(state_file(layout).read_text())["plain"])


def ensure(layout: Layout, vllm_patch: str, real: Mapping[str, Upstream], say: Say) -> Made:
    """The repositories are there and fit the sources.

    In: the folder below ``standins/patches`` that holds the vendor's half of vLLM;
    the real upstreams to use in place of stand-ins.
    """
    key = vendorkey.ensure(layout)
    wanted = digest(layout, key, vllm_patch, real)
    made = remembered(layout, wanted)
    if made is not None:
        return made
    layout.upstreams.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=layout.folder) as temporary:
        made = make(Path(temporary), key, vllm_patch, real)
        for name in places.REPOSITORIES:
            publish(Path(temporary) / name, layout.upstreams / f"{name}.git")
    state = {"digest": wanted, "patch": made.patch, "instead_of": made.instead_of, "plain": made.plain}
    state_file(layout).write_text(json.dumps(state) + "\n")
    also = f", the real {' and '.join(sorted(real))} among them" if real else ""
    say(f"made the upstream repositories in {layout.upstreams}{also}")
    return made


def state_file(layout: Layout) -> Path:
    """What the repositories were made from, and what came out."""
    return layout.upstreams / "state.json"


def remembered(layout: Layout, wanted: str) -> Made | None:
    """What the repositories hold, where they are whole and made from what has this digest."""
    if not state_file(layout).is_file():
        return None
    state = json.loads(state_file(layout).read_text())
    whole = all((layout.upstreams / f"{name}.git").is_dir() for name in places.REPOSITORIES)
    return Made(state["patch"], state["instead_of"], state["plain"]) if whole and state["digest"] == wanted else None


def make(folder: Path, key: Any, vllm_patch: str, real: Mapping[str, Upstream]) -> Made:
    """Make the repositories as work trees in ``folder``. Raises LabError."""
    make_flaggems(folder / "FlagGems")
    overlay = places.standins() / "patches" / vllm_patch
    if "FlagScale" in real:
        return make_on_real(folder, key, overlay, real)
    patch, plain = make_flagscale(folder / "FlagScale", key, make_vllm(folder / "vllm"), overlay)
    return Made(patch, {}, plain)


def make_on_real(folder: Path, key: Any, overlay: Path, real: Mapping[str, Upstream]) -> Made:
    """The lab as the vendor: its patches against the real FlagScale, and the commit that brings them."""
    scale = Work(folder / "FlagScale", real["FlagScale"].url)
    base = full_commit(scale.folder, real["FlagScale"].commit)
    scale.git("checkout", "--quiet", "-B", "main", base)
    if "vllm" in real:
        linked = gitlink(scale.folder, base, "vllm")
        vllm = Vllm(Work(folder / "vllm", real["vllm"].url), linked, linked)
    else:
        vllm = make_vllm(folder / "vllm")
        base = commit_with_link(scale, vllm.linked, "r1deploy lab: vLLM is the lab's stand-in")
    patches = patches_of(scale, base, vllm, overlay)
    write_vendor(scale, key, VendorPatch(patches, base, vllm.base, ["ds"]))
    patch = commit_with_link(scale, vllm.linked, "r1deploy lab: a vendor's patch of the lab's own")
    url = submodule_url(scale.folder, base, "vllm")
    return Made(patch, {url: f"git://{places.upstream_address()}/vllm.git"})


def patches_of(scale: Work, base: str, vllm: Vllm, overlay: Path, ours: str = "patches") -> dict[str, bytes]:
    """The vendor's patches by repository; ``ours`` is the stand-ins' folder that holds FlagScale's."""
    return {
        "vllm": vllm.work.diff_of(overlay, vllm.base),
        "FlagScale": scale.diff_of(places.standins() / ours / "flagscale", base),
    }


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


def make_vllm(folder: Path) -> Vllm:
    """vLLM's repository; its history goes on after what the vendor patched."""
    work = Work(folder)
    work.write("README.md", "# vLLM: a stand-in of the r1deploy lab\n")
    work.commit("Begin")
    work.lay(places.standins() / "vllm")
    base = work.commit("Release 0.7.3")
    work.write("CHANGES.md", "Later than the vendor's base.\n")
    linked = work.commit("Go on after 0.7.3")
    work.write("CHANGES.md", "Later still.\n")
    work.commit("Go on")
    return Vllm(work, base, linked)


def make_flagscale(folder: Path, key: Any, vllm: Vllm, overlay: Path) -> tuple[str, str]:
    """The repository; returns the commits with the first vendor's patch and with the second's."""
    work = Work(folder)
    work.write("README.md", "# FlagScale: a stand-in of the r1deploy lab\n")
    work.commit("Begin")
    work.lay(places.standins() / "flagscale")
    work.write(".gitmodules", gitmodules())
    base = commit_with_link(work, vllm.linked, "Serve DeepSeek-R1")
    patches = patches_of(work, base, vllm, overlay)
    ours = VendorPatch(patches, base, vllm.base, ["ds", "minicpm-o", "ds-distill-qwen"])
    write_vendor(work, key, ours)
    patch = commit_with_link(work, vllm.linked, "[ILUVATAR] Add iluvatar support")
    write_history(work, [patch])
    commit_with_link(work, vllm.linked, "Record the patch")
    add_useless_patch(work, key, ours, vllm.linked, patch)
    patches = patches_of(work, base, vllm, plain_overlay(folder.parent / "plain"), "patches-metax")
    write_vendor(work, None, VendorPatch(patches, base, vllm.base, ["deepseek_r1"], device=PLAIN_DEVICE))
    return patch, commit_with_link(work, vllm.linked, "[Metax_C550] DeepSeek-R1")


def add_useless_patch(work: Work, key: Any, ours: VendorPatch, linked: str, patch: str) -> None:
    """A newer patch over ours: what unpatch.py takes when nobody tells it our commit ``patch``."""
    useless = dict.fromkeys(ours.patches, b"this patch is for training llama3-70b and fits nothing here\n")
    write_vendor(work, key, replace(ours, patches=useless, models=["llama3-70b"], task="train"))
    commit = commit_with_link(work, linked, "[ILUVATAR] llama3-70b training")
    write_history(work, [patch, commit])
    commit_with_link(work, linked, "Record the newer patch")


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


def write_vendor(work: Work, key: Any, patch: VendorPatch) -> None:
    """hardware/<device>/<backend>/: what is patched, and the patch under the vendor's key (None: in plain text)."""
    for name, plain in patch.patches.items():
        place = f"hardware/{patch.device}/{name}"
        # JSON is YAML, and needs no YAML library here.
        work.write(f"{place}/diff.yaml", json.dumps(patch.facts(), indent=2) + "\n")
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
