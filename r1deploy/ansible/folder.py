"""A folder for one run, in the temporary folder: it holds variables, so it goes whatever happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from r1deploy import signals

PREFIX = "r1deploy-run-"


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """A 0700 folder for one run. Folders of runs that were killed are removed first."""
    sweep()
    with signals.later():
        path, handle = make()
    try:
        yield path
    finally:
        with signals.later():
            shutil.rmtree(path, ignore_errors=True)
            os.close(handle)


def make() -> tuple[Path, int]:
    """A new folder and an open handle that holds its lock. The sweep of another run may come between the two."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getuid()}-"))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                return path, handle
        os.close(handle)


def sweep() -> None:
    """Remove the folders of runs that were killed: nobody holds their lock any more.

    Anybody may put something of such a name there: what is no folder, or not ours, is left alone.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}{os.getuid()}-*"):
        with contextlib.suppress(OSError):
            # O_NONBLOCK: to open a pipe would wait for its other end.
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if os.fstat(handle).st_uid == os.getuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)
