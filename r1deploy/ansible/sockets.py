"""Connections that OpenSSH keeps open from one command of a run to the next, and their end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from r1deploy.ansible.folder import run_folder
from r1deploy.ansible.leash import end_marked
from r1deploy.ssh import LONGEST_SOCKETS


@contextlib.contextmanager
def kept_open() -> Iterator[str | None]:
    """A folder for their sockets, 0700; None where its path is too long for one. The connections end with it.

    Those of a run that was killed end by themselves, a minute after their last command.
    """
    with run_folder() as folder:
        try:
            yield str(folder) if len(str(folder)) <= LONGEST_SOCKETS else None
        finally:
            end_marked(folder)
