"""Files of a host as data: plain files only, so much and no more, never waited for; and names that are safe to use."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from typing import Any, BinaryIO, Iterable

LIMIT = 1 << 20
# What a name may be that becomes a part of a path, a group or a label.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def open_plain(path: str) -> BinaryIO:
    """An open plain file, for bytes. Raises OSError: also for a FIFO, on which an ordinary open() waits for ever."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # a null byte, half a character
        raise OSError(errno.EINVAL, str(error)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a plain file", path)
    return os.fdopen(handle, "rb")


def read_bytes(path: str, limit: int = LIMIT) -> bytes:
    """The bytes of a plain file. Raises OSError, also where there are more than ``limit``."""
    with open_plain(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes", path)
    return data


def read_text(path: str, limit: int = LIMIT) -> str | None:
    """A text file, stripped; None where there is none that can be read."""
    try:
        return read_bytes(path, limit).decode("utf-8", "replace").strip()
    except OSError:
        return None


def read_end(path: str, limit: int = LIMIT) -> list[str]:
    """The last whole lines of a text file that may be long; none where it cannot be read."""
    try:
        with open_plain(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - limit))
            rows = stream.read(limit).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return rows[1:] if size > limit else rows


def read_json(path: str, limit: int = LIMIT) -> Any:
    """A JSON document, or None where there is none that can be read."""
    try:
        return parse(read_bytes(path, limit).decode("utf-8"))
    except (OSError, ValueError):
        return None


def parse(text: str) -> Any:
    """A JSON document. Raises ValueError, also where it is deeper than Python goes."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("too deep") from None


def read_sha256(path: str) -> str | None:
    """sha256 of a plain file's bytes; None where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open_plain(path) as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def is_name(text: object) -> bool:
    """Whether a text is a name that can stand in a path."""
    return isinstance(text, str) and NAME.fullmatch(text) is not None


def own_names(paths: Iterable[str]) -> list[str]:
    """Those paths whose last part is a name as ours are: the others are not ours."""
    return sorted(path for path in paths if is_name(os.path.basename(path)))
