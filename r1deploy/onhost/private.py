"""Locks in a folder that only root can enter: whoever can open a lock's file can hold it for ever."""

import errno
import fcntl
import os
import stat


def private_folder(path):
    """Make a 0700 folder of our own, or make it so. Raises OSError where it is somebody else's, or no folder."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(handle)
        if info.st_uid != os.getuid():
            raise OSError(errno.EPERM, "it belongs to user %d, not to root" % info.st_uid, path)
        if stat.S_IMODE(info.st_mode) != 0o700:
            os.fchmod(handle, 0o700)
    finally:
        os.close(handle)


def locked(path, is_held):
    """An open and locked file in a private folder; None where somebody else holds it.

    In: ``is_held(path)`` says whether the process that the file names lives. A file that others could open, as
    older versions made them, is held by nobody else: it is replaced where that process does not live.
    Raises OSError.
    """
    private_folder(os.path.dirname(path))
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            os.unlink(path)  # a link or a FIFO from the time when the folder was open
            continue
        info = os.fstat(handle)
        plain = stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = False
        except BlockingIOError:
            held = True
        try:
            same = os.stat(path).st_ino == info.st_ino
        except FileNotFoundError:
            same = False
        if same and plain and not held:
            os.fchmod(handle, 0o600)
            return handle
        if same and plain and (is_held(path) or not info.st_mode & 0o077):
            os.close(handle)
            return None
        if same:
            os.unlink(path)
        os.close(handle)
