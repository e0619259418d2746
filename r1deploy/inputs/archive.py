"""A docker-save file is read once, front to back: what is in it, and the sha256 of all.

Plain tar, gzip, zstd, xz and bzip2 are told by their first bytes. zstd is read with the ``zstandard`` package, since
Python has it from 3.14 on only and a program would have to be installed on every controller.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

from r1deploy.inputs import tarfiles

BLOCK = 1 << 20

# Configurations and manifests are a few KB; layers are not kept.
KEEP = 4 << 20

KEEP_ALL = 64 << 20

# Bytes read, and their total.
Read = Callable[[int, int], None]


@dataclass
class Members:
    """What was read: bytes of the small files, sha256 of all, and where links lead."""

    kept: dict[str, bytes] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def sum_of(self, name: str) -> str | None:
        """sha256 of a member; old engines save a layer that occurs twice as a link."""
        return self.sums.get(self.links.get(name, name))

    def size_of(self, name: str) -> int:
        """Bytes of a member."""
        return self.sizes[self.links.get(name, name)]


class Hashed(io.RawIOBase):
    """A file that hashes what is read from it."""

    def __init__(self, raw: IO[bytes], progress: Read | None) -> None:
        super().__init__()
        self.raw, self.sha256 = raw, hashlib.sha256()
        self._progress, self._total = progress, os.fstat(raw.fileno()).st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.raw.read(len(buffer))
        buffer[: len(data)] = data
        self.sha256.update(data)
        if self._progress:
            self._progress(self.raw.tell(), self._total)
        return len(data)


def _zstd(stream: IO[bytes]) -> IO[bytes]:
    import zstandard

    return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)


PACKINGS: tuple[tuple[bytes, str, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", "gzip", lambda stream: gzip.GzipFile(fileobj=stream)),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"\xfd7zXZ\x00", "xz", lzma.LZMAFile),
    (b"BZh", "bzip2", bz2.BZ2File),
)


def unpacked(stream: io.BufferedReader[Any]) -> tuple[str, Any]:
    """How a file is packed, and a stream of what is in it."""
    first = stream.peek(8)
    for magic, packed, opened in PACKINGS:
        if first.startswith(magic):
            return packed, opened(stream)
    return "plain", stream


def members_of(stream: Any) -> Members:
    """All members of an archive. Raises TarError, EOFError where it is truncated."""
    members, number, kept = Members(), 0, 0
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=tarfiles.Member) as archive:
        while member := archive.next():
            tarfiles.forget(archive)
            number += 1
            if number > tarfiles.MOST_MEMBERS:
                raise tarfile.ReadError(f"it holds more than {tarfiles.MOST_MEMBERS} files: it is no image")
            name = str(PurePosixPath(member.name))
            if member.issym():
                members.links[name] = os.path.normpath(PurePosixPath(name).parent / member.linkname)
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            digest, size, parts = hashlib.sha256(), 0, []
            while block := content.read(BLOCK):
                digest.update(block)
                size += len(block)
                if member.size <= KEEP:
                    parts.append(block)
            if size != member.size:
                raise EOFError(f"it ends inside of {name}")
            members.sums[name], members.sizes[name] = digest.hexdigest(), size
            # What may be JSON; a layer is not.
            if parts and parts[0][:1] in (b"{", b"["):
                members.kept[name] = b"".join(parts)
                kept += size
                if kept > KEEP_ALL:
                    raise tarfile.ReadError("its small files are too many: it is no image")
    return members
