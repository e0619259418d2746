"""Connections that OpenSSH keeps open from one command of a run to the next, and their end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from r1deploy.ansible import watchdog
from r1deploy.ansible.folder import run_folder
from r1deploy.ssh import LONGEST_SOCKETS


@contextlib.contextmanager
def kept_open() -> Iterator[str | None]:
    """A folder for their sockets, 0700; None where its path is too long for one.

    The connections end with it, and also where this process is killed.
    """
    with run_folder() as folder:
        if len(str(folder)) > LONGEST_SOCKETS:
            yield None
            return
        argv = [sys.executable, "-I", "-S", watchdog.__file__, str(folder)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True):
            try:
                yield str(folder)
            finally:
                watchdog.end_marked(folder)
