"""A vendor's delivery on this machine: is it complete, whole, and of the locked commits? No host is asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from r1deploy.errors import PreflightError, UsageError
from r1deploy.inputs.git import blobs
from r1deploy.inputs.key import KEY, prove_key
from r1deploy.inputs.locking import patch_paths
from r1deploy.inputs.tarball import Tarball, inspect
from r1deploy.observe.context import settings_in
from r1deploy.onhost import shards
from r1deploy.onhost.gather import whole
from r1deploy.onhost.sums import parse_sums
from r1deploy.planning.clusterchecks import fitting
from r1deploy.planning.findings import Check, failed, passed
from r1deploy.planning.observed import Weights
from r1deploy.planning.shardfindings import faults, few
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock
from r1deploy.settings.model import Settings
from r1deploy.units import size_of
from r1deploy.verbs.preflight import Findings, findings
from r1deploy.voice import Progress

PARTS = ("image", "key", "weights")
IMAGES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".tar.bz2")
ASK = "ask the vendor for it before a maintenance window is booked"


def check(
    folder: Path, delivery: Path, flags: Mapping[str, object], without: frozenset[str], progress: Progress
) -> Findings:
    """Findings on each part of a delivery.

    In: the folder of r1deploy.yaml; the delivery's folder; parts that are not expected in it.
    Raises UsageError, ConfigError.
    """
    if not delivery.is_dir():
        raise UsageError("DELIVERY_MISSING", f"{delivery}: no such folder", fix="r1deploy vendor check FOLDER")
    if unknown := without - set(PARTS):
        raise UsageError("DELIVERY_PART", f"--without {min(unknown)}: no such part", fix=f"one of {', '.join(PARTS)}")
    settings = settings_in(folder.resolve(), flags).settings
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
    return findings(rows)


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
            yield failed("MANIFEST_INVALID", "sha256", f"{place}: {error}", fix)
            continue
        lost = [name for name in wanted if not (listing.parent / name).is_file()]
        there = {name: listing.parent / name for name in wanted if name not in lost}
        has = hash_all(there, progress)
        bad = [f"no {name}" for name in lost] + [f"{name} has another" for name in there if has[name] != wanted[name]]
        if bad:
            fix = "copy the files again; then ask the vendor"
            yield failed("DELIVERY_DAMAGED", "sha256", f"{place}: {few(bad)}", fix)
        else:
            yield passed("sha256", f"{place}: {len(wanted)} files have theirs")


def hash_all(paths: Mapping[str, Path], progress: Progress) -> dict[str, str]:
    """sha256 of files, on all cores."""
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    done = 0

    def one(name: str) -> tuple[str, str]:
        with paths[name].open("rb") as stream:
            return name, hashlib.file_digest(stream, "sha256").hexdigest()

    digests = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, digest in pool.map(one, paths):
            digests[name] = digest
            done += sizes[name]
            progress("delivery", done, sum(sizes.values()))
    return digests


def image(settings: Settings, lock: Lock | None, delivery: Path, progress: Progress) -> Iterator[Check]:
    """The image's tarball: whole, of image.name, and the locked one where one is locked."""
    name = settings.image.name
    tarballs = [path for path in files_below(delivery) if path.name.endswith(IMAGES)]
    if not tarballs:
        yield failed("TARBALL_MISSING", "image", f"no tarball of {name} ({', '.join(IMAGES)})", ASK)
    for path in tarballs:
        place = str(path.relative_to(delivery))
        try:
            seen = inspect(path, name, lambda done, total: progress("image", done, total))
        except PreflightError as error:
            yield failed(error.code, "image", error.message.replace(str(path), place, 1), error.fix)
            continue
        yield judged_image(settings, lock, path, place, seen)


def judged_image(settings: Settings, lock: Lock | None, path: Path, place: str, seen: Tarball) -> Check:
    """Whether a whole tarball is the wanted one. In: its path, and its place in the delivery."""
    name, locked, expected = settings.image.name, lock.image if lock else None, settings.image.sha256
    if expected and seen.sha256 != expected:
        said = f"{place}: sha256 {seen.sha256[:12]}, image.sha256 says {expected[:12]}"
        return failed("TARBALL_DAMAGED", "image", said, "copy the file again; then ask the vendor")
    other = locked and locked.name == name and {seen.image_id, seen.manifest}.isdisjoint(locked.digests)
    if locked and locked.id and other:
        said = f"{place}: image {seen.image_id[7:19]}, r1deploy.lock says {locked.id[7:19]}"
        fix = f"if it is meant: image.tarball: {path}, then r1deploy bootstrap --upgrade"
        return failed("IMAGE_OTHER", "image", said, fix)
    what = f"{name}, {seen.image_id[7:19]}, {seen.arch}, {seen.layers} layers, {seen.packed}"
    return passed("image", f"{place}: {what}")


def key(settings: Settings, lock: Lock | None, delivery: Path) -> Iterator[Check]:
    """The vendor's key: its place, its mode, and that it decrypts the patches of the locked commit."""
    if not settings.patch.encrypted:
        yield passed("key", "the patch is not encrypted")
        return
    keys = [path for path in files_below(delivery) if path.name == KEY]
    if not keys:
        yield failed("KEY_MISSING", "key", f"no {KEY} in it", ASK)
    for path in keys:
        place = path.relative_to(delivery)
        own = settings.patch.model_copy(update={"key_dir": str(path.parent.resolve())})
        try:
            said = prove_key(settings.model_copy(update={"patch": own}), ciphertexts(settings, lock))
            yield passed("key", f"{place}: {said} of FlagScale {settings.patch.commit[:12]}")
        except PreflightError as error:
            tail = f": {error.evidence[-1]}" if error.evidence else ""
            yield failed(error.code, "key", f"{error.message}{tail}", error.fix)


def ciphertexts(settings: Settings, lock: Lock | None) -> Mapping[str, str]:
    """sha256 of the encrypted patches: the locked ones, or upstream's at patch.commit. Raises PreflightError."""
    if lock and lock.patch and lock.patch.commit == settings.patch.commit and lock.patch.ciphertexts:
        return lock.patch.ciphertexts
    files = blobs(settings, settings.patch.commit, patch_paths(settings))
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def weights(settings: Settings, delivery: Path) -> Iterator[Check]:
    """The checkpoint: all shards, whole, and small enough for the chips."""
    folders = checkpoints(delivery, shards.INDEX)
    if not folders:
        fix = f"{ASK}; or r1deploy weights pull ({settings.weights.repo}) and --without weights"
        yield failed("WEIGHTS_MISSING", "weights", "no checkpoint (safetensors) in it", fix)
    for folder in folders:
        place = str(folder.relative_to(delivery))
        again = "copy these shards again; then ask the vendor"
        try:
            seen = Weights.model_validate(whole(shards.look_checkpoint(str(folder))))
        except ValidationError as error:
            row = error.errors(include_url=False, include_input=False)[0]
            said = f"{place}: {'.'.join(map(str, row['loc']))[:200]}: {row['msg']}"
            yield failed("WEIGHTS_DAMAGED", "weights", said, again)
            continue
        for fault in faults(seen, place):
            yield failed(str(fault.code), "weights", fault.said, again if fault.code == "WEIGHTS_DAMAGED" else ASK)
        if not (seen.missing or seen.bad):
            yield passed("weights", f"{place}: {seen.shards} shards, {size_of(seen.bytes)}")
            yield fitting(settings, seen.bytes, seen.layers)


def checkpoints(delivery: Path, index: str) -> Sequence[Path]:
    """Folders that hold shards or an index of them."""
    folders = {path.parent for path in files_below(delivery) if path.suffix == ".safetensors" or path.name == index}
    return sorted(folders)
