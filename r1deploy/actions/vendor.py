"""A vendor's delivery on this machine: is it complete, whole, and of the locked commits? No host is asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from r1deploy.actions.resolve import KEY, blobs, patch_paths, prove_key
from r1deploy.actions.tarball import inspect
from r1deploy.actions.weights import damage, few
from r1deploy.errors import PreflightError, UsageError
from r1deploy.onhost import shards
from r1deploy.onhost.sums import parse_sums
from r1deploy.planning.checks import fits
from r1deploy.planning.findings import Check
from r1deploy.settings import lockfile
from r1deploy.settings.load import load
from r1deploy.settings.lockfile import Lock
from r1deploy.settings.model import Settings
from r1deploy.units import size_of

Progress = Callable[[str, int, int], None]
PARTS = ("image", "key", "weights")
IMAGES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".tar.bz2")
ASK = "ask the vendor for it before a maintenance window is booked"


def check(
    folder: Path, delivery: Path, flags: Mapping[str, object], without: frozenset[str], progress: Progress
) -> list[Check]:
    """Findings on each part of a delivery.

    In: the folder of r1deploy.yaml; the delivery's folder; parts that are not expected in it.
    Raises UsageError, ConfigError.
    """
    if not delivery.is_dir():
        raise UsageError("DELIVERY_MISSING", f"{delivery}: no such folder", fix="r1deploy vendor check FOLDER")
    if unknown := without - set(PARTS):
        raise UsageError("DELIVERY_PART", f"--without {min(unknown)}: no such part", fix=f"one of {', '.join(PARTS)}")
    settings = load(folder.resolve(), flags, os.environ).settings
    lock = lockfile.read(folder.resolve() / lockfile.FILE_NAME)
    rows = list(sums(delivery, progress))
    looks: dict[str, Callable[[], Iterator[Check]]] = {
        "image": lambda: image(settings, lock, delivery, progress),
        "key": lambda: key(settings, lock, delivery),
        "weights": lambda: weights(settings, delivery),
    }
    for part in PARTS:
        if part not in without:
            rows += looks[part]()
    return rows


def files_below(delivery: Path) -> list[Path]:
    """All files of a delivery, sorted."""
    return sorted(path for path in delivery.rglob("*") if path.is_file())


def sums(delivery: Path, progress: Progress) -> Iterator[Check]:
    """Files that came with a sha256 have it; a list of sums counts from its own folder."""
    for listing in files_below(delivery):
        name = listing.name.lower()
        if not (name.startswith(("sha256sum", "manifest.sha256")) or name.endswith((".sha256", ".sha256sum"))):
            continue
        place = str(listing.relative_to(delivery))
        try:
            wanted: dict[str, str] = parse_sums(listing.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            fix = "a line of the file is: sha256, two spaces, name"
            yield Check("sha256", None, False, f"{place}: {error}", "MANIFEST_INVALID", fix)
            continue
        lost = [name for name in wanted if not (listing.parent / name).is_file()]
        there = {name: listing.parent / name for name in wanted if name not in lost}
        found = hash_all(there, progress)
        bad = [f"no {name}" for name in lost] + [f"{name} has another" for name in there if found[name] != wanted[name]]
        detail = f"{place}: {few(bad)}" if bad else f"{place}: {len(wanted)} files have theirs"
        yield Check("sha256", None, not bad, detail, "DELIVERY_DAMAGED", "copy the files again; then ask the vendor")


def hash_all(paths: Mapping[str, Path], progress: Progress) -> dict[str, str]:
    """sha256 of files, on all cores."""
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    done = 0

    def one(name: str) -> tuple[str, str]:
        with paths[name].open("rb") as stream:
            return name, hashlib.file_digest(stream, "sha256").hexdigest()

    found = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, digest in pool.map(one, paths):
            found[name] = digest
            done += sizes[name]
            progress("delivery", done, sum(sizes.values()))
    return found


def image(settings: Settings, lock: Lock | None, delivery: Path, progress: Progress) -> Iterator[Check]:
    """The image's tarball: whole, of image.name, and the locked one where one is locked."""
    name = settings.image.name
    tarballs = [path for path in files_below(delivery) if path.name.endswith(IMAGES)]
    if not tarballs:
        detail = f"no tarball of {name} ({', '.join(IMAGES)})"
        yield Check("image", None, False, detail, "TARBALL_MISSING", ASK)
    for path in tarballs:
        place = path.relative_to(delivery)
        try:
            found = inspect(path, name, lambda done, total: progress("image", done, total))
        except PreflightError as error:
            detail = error.message.replace(str(path), str(place), 1)
            yield Check("image", None, False, detail, error.code, error.fix)
            continue
        locked, expected = lock.image if lock else None, settings.image.sha256
        said = f"{place}: {name}, {found.image_id[7:19]}, {found.arch}, {found.layers} layers, {found.packed}"
        if expected and found.sha256 != expected:
            detail = f"{place}: sha256 {found.sha256[:12]}, image.sha256 says {expected[:12]}"
            yield Check("image", None, False, detail, "TARBALL_DAMAGED", "copy the file again; then ask the vendor")
        elif (
            locked and locked.name == name and locked.id and {found.image_id, found.manifest}.isdisjoint(locked.digests)
        ):
            detail = f"{place}: image {found.image_id[7:19]}, r1deploy.lock says {locked.id[7:19]}"
            fix = f"if it is meant: image.tarball: {path}, then r1deploy bootstrap --upgrade"
            yield Check("image", None, False, detail, "IMAGE_OTHER", fix)
        else:
            yield Check("image", None, True, said, "TARBALL_DAMAGED")


def key(settings: Settings, lock: Lock | None, delivery: Path) -> Iterator[Check]:
    """The vendor's key: its place, its mode, and that it decrypts the patches of the locked commit."""
    if not settings.patch.encrypted:
        yield Check("key", None, True, "the patch is not encrypted", "KEY_WRONG")
        return
    keys = [path for path in files_below(delivery) if path.name == KEY]
    if not keys:
        yield Check("key", None, False, f"no {KEY} in it", "KEY_MISSING", ASK)
    for path in keys:
        place = path.relative_to(delivery)
        own = settings.patch.model_copy(update={"key_dir": str(path.parent.resolve())})
        try:
            said = prove_key(settings.model_copy(update={"patch": own}), ciphertexts(settings, lock))
            detail = f"{place}: {said} of FlagScale {settings.patch.commit[:12]}"
            yield Check("key", None, True, detail, "KEY_WRONG")
        except PreflightError as error:
            tail = f": {error.evidence[-1]}" if error.evidence else ""
            yield Check("key", None, False, f"{error.message}{tail}", error.code, error.fix)


def ciphertexts(settings: Settings, lock: Lock | None) -> Mapping[str, str]:
    """sha256 of the encrypted patches: the locked ones, or upstream's at patch.commit. Raises PreflightError."""
    if lock and lock.patch and lock.patch.commit == settings.patch.commit and lock.patch.ciphertexts:
        return lock.patch.ciphertexts
    found = blobs(settings, settings.patch.commit, patch_paths(settings))
    return {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}


def weights(settings: Settings, delivery: Path) -> Iterator[Check]:
    """The checkpoint: all shards, whole, and small enough for the chips."""
    folders = checkpoints(delivery, shards.INDEX)
    if not folders:
        fix = f"{ASK}; or r1deploy weights pull ({settings.weights.repo}) and --without weights"
        yield Check("weights", None, False, "no checkpoint (safetensors) in it", "WEIGHTS_MISSING", fix)
    for folder in folders:
        place = folder.relative_to(delivery)
        seen = shards.look_checkpoint(str(folder))
        if not seen["config"]:
            yield Check("weights", None, False, f"{place}: no config.json", "WEIGHTS_MISSING", ASK)
        if seen["missing"] or seen["bad"]:
            fix = "copy these shards again; then ask the vendor"
            yield Check("weights", None, False, f"{place}: {damage(seen)}", "WEIGHTS_DAMAGED", fix)
            continue
        ok, detail = fits(settings, seen["bytes"], seen["layers"])
        said = f"{place}: {seen['shards']} shards, {size_of(seen['bytes'])}"
        yield Check("weights", None, True, said, "WEIGHTS_DAMAGED")
        yield Check("weights fit", None, ok, detail, "WEIGHTS_TOO_LARGE", "more chips, or a smaller checkpoint")


def checkpoints(delivery: Path, index: str) -> Sequence[Path]:
    """Folders that hold shards or an index of them."""
    found = {path.parent for path in files_below(delivery) if path.suffix == ".safetensors" or path.name == index}
    return sorted(found)
