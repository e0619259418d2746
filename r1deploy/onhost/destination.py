"""The folder that a checkpoint is written to: one writer at a time, and room for what is to come."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import Iterator

from .plainfiles import read_text
from .private import locked
from .saying import Refusal

LOCKS = "/run/r1deploy"


def there(path: str) -> str:
    """The folder itself, or its nearest parent that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def free_bytes(path: str) -> int:
    """Bytes free for a folder that may not exist yet."""
    info = os.statvfs(there(path))
    return info.f_bavail * info.f_frsize


def refuse_too_much(path: str, need: int) -> None:
    """Raises Refusal where fewer bytes are free than are to come."""
    free = free_bytes(path)
    if need > free:
        text = f"{need / 2**30:.1f} GiB are to come, {free / 2**30:.1f} GiB are free in {there(path)}"
        raise Refusal("DISK_FULL", text)


def length_of(path: str) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def sizes_below(path: str) -> dict[str, int]:
    """``{relative path: bytes}`` of all files below a folder; those that vanish meanwhile are left out."""
    sizes = {}
    for top, _, names in os.walk(path):
        for name in names:
            full = os.path.join(top, name)
            with contextlib.suppress(OSError):
                sizes[os.path.relpath(full, path)] = os.stat(full).st_size
    return sizes


@contextlib.contextmanager
def alone(path: str, locks: str | None = None) -> Iterator[None]:
    """One run at a time writes to a checkpoint; the lock goes with the process that holds it. Raises Refusal.

    In: the folder of the locks, where it is not LOCKS.
    """
    name = f"{locks or LOCKS}/weights-{hashlib.sha256(path.encode()).hexdigest()[:12]}.lock"
    handle = locked(name, lambda _: True)
    if handle is None:
        raise Refusal("WEIGHTS_BUSY", f"another run writes to {path} ({read_text(name) or '?'})")
    with os.fdopen(handle, "r+") as stream:
        stream.truncate(0)
        stream.write(f"pid {os.getpid()} since {time.strftime('%H:%M:%S')}")
        stream.flush()
        yield
