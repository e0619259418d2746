"""A bundle: one file with all that a locked deployment takes from the internet.

A plain tar whose first member is ``manifest.json`` (size and sha256 of every other
one), followed by the sha256 of the whole tar as 64 hex digits: every byte of the
file counts, the tar's own headers and padding too.
"""

from __future__ import annotations

import errno
import hashlib
import io
import shlex
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from r1deploy.errors import PreflightError, UsageError
from r1deploy.inputs import tarfiles

MANIFEST = "manifest.json"
LOCK = "r1deploy.lock"
TRAILER = 64
CHUNK = 1 << 20
IMAGE = "image/image.tar"
# Where there is one: the sets of eval, a folder each, and the files that evalscope is installed from.
EVAL_SETS, EVAL_PYTHON = "eval/sets", "eval/python"
# The manifest names some hundred files.
LONGEST_MANIFEST = 4 << 20
AGAIN = "copy the file again and compare its sha256 with the one where it was made"


def _inside(name: str) -> str:
    """A name in the bundle as a path below a folder. Raises ValueError for one that may lead out of it."""
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or len(name) > 500 or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is no name of a file in a bundle")
    return name


Place = Annotated[str, pydantic.AfterValidator(_inside)]


class Entry(BaseModel):
    """One file of a bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Repository(BaseModel):
    """A git repository of a bundle: where it came from, and its file (a ``git bundle``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    url: str = Field(pattern=r"^[!-~]{1,2000}$")
    head: str = Field(pattern=r"^[0-9a-f]{40}$")
    file: Place


class Manifest(BaseModel):
    """What a bundle holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    schema_: Literal[1] = 1
    r1deploy: str
    image: str
    repositories: tuple[Repository, ...]
    files: Mapping[Place, Entry]

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> Manifest:
        names = [row.name.lower() for row in self.repositories]
        if len(set(names)) < len(names):
            raise ValueError("two repositories of one name")
        if MANIFEST in self.files or len(self.files) > tarfiles.MOST_MEMBERS:
            raise ValueError("it names itself, or too many files")
        lacking = {LOCK, IMAGE, *(row.file for row in self.repositories)} - set(self.files)
        if lacking:
            raise ValueError(f"it does not name {', '.join(sorted(lacking))}")
        return self


@dataclass(frozen=True)
class Unpacked:
    """A bundle in the cache; each of its files was verified on the way there."""

    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """Where a file of the bundle lies."""
        return self.folder / "files" / name

    def holds(self, folder: str) -> bool:
        """Whether it has files of a folder."""
        return any(name.startswith(f"{folder}/") for name in self.manifest.files)

    def mirror(self, repository: Repository) -> Path:
        """Where a repository's bare clone lies."""
        return self.folder / "git" / f"{repository.name}.git"


class _Hashing(io.RawIOBase):
    """A file that is read once, front to back; all but its last bytes are hashed."""

    def __init__(self, stream: IO[bytes], end: int) -> None:
        self._stream, self._end = stream, end
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._stream.tell()
        data = self._stream.read(left if size < 0 else min(size, left))
        self.digest.update(data)
        return data


def sha256_of(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write(target: Path, image: str, repositories: tuple[Repository, ...], files: Mapping[str, Path], by: str) -> str:
    """Write a bundle, whole or not at all; returns the sha256 of the file.

    In: the image's name; name in the bundle → file here; ``by``, our own version.
    """
    entries = {name: Entry(size=path.stat().st_size, sha256=sha256_of(path)) for name, path in files.items()}
    manifest = Manifest(r1deploy=by, image=image, repositories=repositories, files=entries)
    partial = target.with_name(f".{target.name}.new")
    try:
        with partial.open("w+b") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
                data = manifest.model_dump_json(indent=1).encode()
                archive.addfile(_member(MANIFEST, len(data)), io.BytesIO(data))
                for name, path in files.items():
                    with path.open("rb") as content:
                        archive.addfile(_member(name, entries[name].size), content)
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.write(digest.encode())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return sha256_of(target)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def unpack(source: Path, cache: Path) -> Unpacked:
    """Verify every byte of a bundle and lay its files below ``cache/<hash of the manifest>/files``.

    Files that are there already are verified in the bundle all the same, and kept.
    Raises UsageError BUNDLE_MISSING, PreflightError BUNDLE_DAMAGED.
    """
    if not source.is_file():
        raise UsageError("BUNDLE_MISSING", f"{source}: no such file", fix="r1deploy bundle create FILE makes one")
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f".{source.name}.new"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        manifest, identity = _extract(source, partial)
        target = cache / identity / "files"
        if not target.is_dir():
            target.parent.mkdir(exist_ok=True)
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Unpacked(target.parent, manifest)


def opened(folder: Path, memory: Path) -> Unpacked:
    """A bundle that ``unpack`` laid into the cache, as a file of the user's remembers it. Raises BUNDLE_MISSING."""
    try:
        data = (folder / "files" / MANIFEST).read_bytes()
        return Unpacked(folder, Manifest.model_validate_json(data))
    except (OSError, pydantic.ValidationError):
        fix = f"r1deploy bootstrap --bundle FILE; without a bundle: rm {shlex.quote(str(memory))}"
        raise UsageError("BUNDLE_MISSING", f"the unpacked bundle {folder} is gone", fix=fix) from None


def damaged(source: Path, why: str) -> PreflightError:
    """The one error for a bundle that is not what was written."""
    return PreflightError("BUNDLE_DAMAGED", f"{source}: {why}", fix=AGAIN)


def _extract(source: Path, folder: Path) -> tuple[Manifest, str]:
    size = source.stat().st_size - TRAILER
    if size <= 0:
        raise damaged(source, "it is cut short")
    with source.open("rb") as raw:
        stream = _Hashing(raw, size)
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=tarfiles.Member) as archive:
                manifest, data = _manifest(source, archive)
                if sum(entry.size for entry in manifest.files.values()) > size:
                    raise damaged(source, "its files are larger than it is")
                extracted = _files(source, archive, manifest, folder)
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                fix = f"free space in {folder.parent}, or set XDG_CACHE_HOME to a larger disk"
                raise PreflightError("DISK_FULL", str(error), fix=fix) from None
            raise damaged(source, str(error)) from None
        while stream.read(CHUNK):
            pass
        if raw.read(TRAILER) != stream.digest.hexdigest().encode():
            raise damaged(source, "its sha256 is not the one it ends with")
    missing = sorted(set(manifest.files) - extracted)
    if missing:
        raise damaged(source, f"it lacks {', '.join(missing[:5])}")
    (folder / MANIFEST).write_bytes(data)
    return manifest, hashlib.sha256(data).hexdigest()[:16]


def _manifest(source: Path, archive: tarfile.TarFile) -> tuple[Manifest, bytes]:
    member = archive.next()
    stream = archive.extractfile(member) if member and member.name == MANIFEST and member.isreg() else None
    if member is None or stream is None:
        raise damaged(source, "it does not begin with a manifest: it is no bundle")
    if member.size > LONGEST_MANIFEST or member.sparse:
        raise damaged(source, f"its manifest has {member.size} bytes")
    data = stream.read()
    try:
        return Manifest.model_validate_json(data), data
    except pydantic.ValidationError as error:
        first: Any = error.errors()[0]
        raise damaged(source, f"its manifest cannot be read: {first['msg']}") from None


def _files(source: Path, archive: tarfile.TarFile, manifest: Manifest, folder: Path) -> set[str]:
    """Extract what the manifest names, once each, under the names and with the sizes that it gives."""
    extracted: set[str] = set()
    while member := archive.next():
        tarfiles.forget(archive)
        wanted = None if member.name in extracted else manifest.files.get(member.name)
        stream = archive.extractfile(member) if member.isreg() and not member.sparse else None
        if wanted is None or stream is None:
            raise damaged(source, f"it holds {member.name!r}, which its manifest does not name")
        if member.size != wanted.size:
            raise damaged(source, f"{member.name} has {member.size} bytes, its manifest says {wanted.size}")
        path = folder / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("wb") as target:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != wanted.sha256:
            raise damaged(source, f"{member.name} has another sha256 than the manifest says")
        extracted.add(member.name)
    return extracted
