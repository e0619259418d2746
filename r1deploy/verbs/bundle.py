"""Bundles: gather a locked deployment where there is internet, apply it where there is none."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from r1deploy import __version__, content
from r1deploy.assurance import evalinstall
from r1deploy.assurance.evaldata import folders
from r1deploy.assurance.evalrows import SETS
from r1deploy.errors import ApplyError, ConfigError, PreflightError
from r1deploy.inputs import bundlefile
from r1deploy.inputs.bundlefile import Repository, Unpacked
from r1deploy.inputs.git import cache_folder, git, ref_of
from r1deploy.inputs.locking import resolve
from r1deploy.inputs.upstream import Upstream, lacking, upstreams
from r1deploy.observe.context import Context, remember_bundle, settings_in, with_bundle
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock
from r1deploy.settings.model import Settings
from r1deploy.settings.redact import without_login
from r1deploy.settings.site import with_ca
from r1deploy.voice import Say

HOURS = 4 * 3600


def create(folder: Path, flags: Mapping[str, object], target: Path, extras: frozenset[str], say: Say) -> str:
    """Write the bundle of the deployment in ``folder``; needs no inventory and no host. Returns its sha256.

    In: ``extras``, of "python" (r1deploy's own wheels) and "eval" (the sets, and evalscope). What is not locked yet
    gets locked. Raises PreflightError, ConfigError, ApplyError.
    """
    settings = settings_in(folder.resolve(), flags).settings
    path = folder.resolve() / lockfile.FILE_NAME
    held = lockfile.read(path)
    lock = resolve(settings, held, frozenset(), say)
    if lock.image is None or settings.image.tarball is None:
        fix = f"docker save -o image.tar {settings.image.name}, then image.tarball: image.tar"
        raise PreflightError("BUNDLE_INCOMPLETE", "a bundle needs the image as a tarball", fix=fix)
    if bundlefile.sha256_of(Path(settings.image.tarball)) != lock.image.tarball_sha256:
        message = f"{settings.image.tarball} is not the file that r1deploy.lock names"
        raise PreflightError("TARBALL_DAMAGED", message, fix="bootstrap --upgrade locks another image")
    if lock != held:
        lockfile.write(path, lock)
    with tempfile.TemporaryDirectory(prefix="r1-bundle-", dir=target.resolve().parent) as work:
        files = {bundlefile.LOCK: path}
        repositories = []
        refs = {"FlagGems": ref_of(settings, settings.flaggems), "FlagScale": ref_of(settings, settings.flagscale)}
        for source in upstreams(settings, lock):
            say(f"gathering {source.name}: {', '.join(commit[:12] for commit in source.commits)}")
            made = Path(work) / f"{source.name}.bundle"
            pack(settings, source, refs.get(source.name), made)
            name = f"git/{made.name}"
            files[name] = made
            url = without_login(source.url)
            repositories.append(Repository(name=source.name, url=url, head=source.commits[0], file=name))
        if "python" in extras:
            say("gathering r1deploy and what it needs as wheels")
            files |= {f"python/{wheel.name}": wheel for wheel in wheels(Path(work) / "python")}
        if "eval" in extras:
            say("gathering the sets of eval, and evalscope")
            files |= evaluation(settings, Path(work) / "evalscope", say)
        files["image/image.tar"] = Path(settings.image.tarball)
        say(f"writing {target}")
        return bundlefile.write(target, settings.image.name, tuple(repositories), files, __version__)


def pack(settings: Settings, source: Upstream, ref: str | None, target: Path) -> None:
    """A ``git bundle`` of a repository's commits with all their history, from a mirror that is kept here.

    In: the full name of the ref that was asked for; it goes along, at the commit that is locked.
    """
    commits = source.commits
    mirror = cache_folder() / "mirrors" / f"{source.name}.git"
    if not (mirror / "HEAD").exists():
        mirror.parent.mkdir(parents=True, exist_ok=True)
        git(settings, "init", "-q", "--bare", str(mirror))
    at = ("-C", str(mirror))
    try:
        git(settings, *at, "fetch", "-q", "--no-tags", source.url, *commits, seconds=HOURS)
    except PreflightError as error:
        raise lacking(error, source.url, commits) from None
    refs = [f"refs/heads/r1deploy-{commit[:12]}" for commit in commits]
    for commit, where in zip(commits, refs, strict=True):
        git(settings, *at, "update-ref", where, commit)
    if ref is not None:
        git(settings, *at, "update-ref", ref, commits[0])
        refs.append(ref)
    git(settings, *at, "bundle", "create", "-q", str(target), *refs, seconds=HOURS)


def wheels(folder: Path) -> list[Path]:
    """Wheels of r1deploy as it runs here and of all it needs, for this Python and platform. Raises ApplyError."""
    own = own_source()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    run([*pip, "wheel", "--no-deps", "-w", str(folder), str(own)])
    made = next(folder.glob("r1deploy-*.whl"))
    pinned = content.PLAYBOOKS.parent / "constraints.txt"
    constraints = ["-c", str(pinned)] if pinned.is_file() else []
    run([*pip, "download", "--only-binary", ":all:", *constraints, "-d", str(folder), str(made)])
    return sorted(folder.glob("*.whl"))


def evaluation(settings: Settings, folder: Path, say: Say) -> dict[str, Path]:
    """Name in the bundle → file, of the six sets and of all that evalscope needs with this Python on this platform.

    Raises ConfigError EVAL_DATA, PreflightError EVAL_MISSING, EVAL_FETCH, EVAL_INSTALL.
    """
    found: dict[str, Path] = {}
    with evalinstall.in_use():
        for name, place in folders(settings, SETS, say).items():
            whole = ((path, path.relative_to(place).as_posix()) for path in sorted(place.rglob("*")) if path.is_file())
            found |= {f"{bundlefile.EVAL_SETS}/{name}/{inside}": path for path, inside in whole}
        for path in evalinstall.download(folder, with_ca(settings.site)):
            found[f"{bundlefile.EVAL_PYTHON}/{path.name}"] = path
    return found


def own_source() -> Path:
    """The checkout or the wheel file that this r1deploy was installed from. Raises PreflightError."""
    text = importlib.metadata.distribution("r1deploy").read_text("direct_url.json")
    path = Path(unquote(urlsplit(json.loads(text)["url"]).path)) if text else Path("/nonexistent")
    if not path.exists():
        message = "--with-python needs the checkout or the wheel that r1deploy was installed from"
        raise PreflightError("BUNDLE_INCOMPLETE", message, fix="pip install /path/of/r1deploy-….whl, then again")
    return path


def run(argv: list[str]) -> None:
    """Run pip. Raises ApplyError with its last lines."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=HOURS)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-8:]
        raise ApplyError("BUNDLE_INCOMPLETE", "pip cannot gather the wheels", evidence=said)


def use(context: Context, source: Path, say: Say) -> Context:
    """Verify and unpack a bundle, take its lock where there is none, and remember it for the next verbs.

    Raises UsageError, PreflightError BUNDLE_DAMAGED, ConfigError BUNDLE_OTHER.
    """
    say(f"verifying {source}")
    unpacked = bundlefile.unpack(source, cache_folder().parent / "bundles")
    for repository in unpacked.manifest.repositories:
        unfold(context.settings, unpacked, repository)
    mine, held = theirs(unpacked, source), lockfile.read(context.lock_path)
    if held is None:
        lockfile.write(context.lock_path, mine)
    elif held != mine:
        raise other(held, mine, source)
    remember_bundle(context.folder, unpacked)
    return with_bundle(context, unpacked)


def theirs(unpacked: Unpacked, source: Path) -> Lock:
    """The lock that the bundle was made of. Raises PreflightError BUNDLE_DAMAGED."""
    try:
        lock = lockfile.read(unpacked.path(bundlefile.LOCK))
    except ConfigError as error:
        raise bundlefile.damaged(source, f"its {bundlefile.LOCK} cannot be read: {error.message}") from None
    if lock is None:
        raise bundlefile.damaged(source, f"it has no {bundlefile.LOCK}")
    return lock


def other(held: Lock, mine: Lock, source: Path) -> ConfigError:
    """The bundle and r1deploy.lock are of two deployments: says where they differ."""
    left, right = held.model_dump(), mine.model_dump()
    names = [name for name in left if left[name] != right[name]]
    fix = "make the bundle anew from this r1deploy.lock, or remove r1deploy.lock to take the bundle's"
    return ConfigError("BUNDLE_OTHER", f"{source}: r1deploy.lock differs in {', '.join(names)}", fix=fix)


def unfold(settings: Settings, unpacked: Unpacked, repository: Repository) -> None:
    """A bare clone of a repository, made once."""
    target = unpacked.mirror(repository)
    if target.is_dir():
        return
    partial = target.with_suffix(".new")
    shutil.rmtree(partial, ignore_errors=True)
    target.parent.mkdir(exist_ok=True)
    git(settings, "clone", "-q", "--mirror", str(unpacked.path(repository.file)), str(partial), seconds=HOURS)
    git(settings, "-C", str(partial), "symbolic-ref", "HEAD", f"refs/heads/r1deploy-{repository.head[:12]}")
    partial.rename(target)
