"""Locks in a folder that only root can enter: whoever can open a lock's file can hold it for ever."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import Callable


def private_folder(path: str) -> None:
    """Make a 0700 folder of our own, or make it so. Raises OSError where it is somebody else's, or no folder."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(handle)
        if info.st_uid != os.getuid():
            raise OSError(errno.EPERM, f"it belongs to user {info.st_uid}, not to root", path)
        if stat.S_IMODE(info.st_mode) != 0o700:
            os.fchmod(handle, 0o700)
    finally:
        os.close(handle)


def locked(path: str, is_held: Callable[[str], bool]) -> int | None:
    """An open and locked file in a private folder; None where somebody else holds it.

    In: ``is_held(path)`` says whether the process that the file names lives. A file that others could open, as
    older versions made them, is held by nobody else: it is replaced where that process does not live.
    Raises OSError.
    """
    private_folder(os.path.dirname(path))
    while True:
        handle = _opened(path)
        if handle is None:
            continue
        info = os.fstat(handle)
        plain = stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid()
        free = _lock(handle)
        if _is_at(path, info):
            if plain and free:
                os.fchmod(handle, 0o600)
                return handle
            if plain and (is_held(path) or not info.st_mode & 0o077):
                os.close(handle)
                return None
            os.unlink(path)
        os.close(handle)


def _opened(path: str) -> int | None:
    """An open file of ours; None where something else had its name, which is removed."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
    os.unlink(path)  # a link or a FIFO from the time when the folder was open
    return None


def _lock(handle: int) -> bool:
    """Lock a file, unless somebody else has."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: str, info: os.stat_result) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.stat(path).st_ino == info.st_ino
    except FileNotFoundError:
        return False
