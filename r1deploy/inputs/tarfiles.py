"""Tar files from elsewhere: what no honest one holds is refused before it costs memory."""

from __future__ import annotations

import tarfile

# Names and attributes of a member; they are read into memory as a whole.
LONGEST_HEADER = 1 << 20
# An image has a few hundred, a bundle about as many.
MOST_MEMBERS = 20_000
_HEADERS = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})
_NAMES = frozenset({tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})


def forget(archive: tarfile.TarFile) -> None:
    """Let the members go that were read: tarfile keeps them all."""
    archive.members.clear()  # type: ignore[attr-defined]


class Member(tarfile.TarInfo):
    """A member of a tar file, for ``tarfile.open(tarinfo=Member)``. Raises ReadError for a header of megabytes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS | _NAMES and member.size > LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a file with holes")
        return member
