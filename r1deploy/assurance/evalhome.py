"""Where eval keeps what it needs and what it found on this machine: its environment, the sets, the runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from r1deploy.errors import LockedError
from r1deploy.journal import private_folder


def home() -> Path:
    """The folder of eval below the user's data folder."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "r1deploy" / "eval"


def environment_folder() -> Path:
    """evalscope's own Python environment."""
    return home() / "env"


def sets_folder() -> Path:
    """The sets that were fetched from the hub."""
    return home() / "sets"


def runs_folder() -> Path:
    """The runs: a folder a cluster, in it a folder a run."""
    return home() / "runs"


@contextlib.contextmanager
def locked(path: Path, what: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock file of this machine; it is free once its holder ended, however that was.

    In: what it stands for, in words. Raises LockedError EVAL_BUSY where somebody else holds it.
    """
    private_folder(path.parent)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{what} is in use by another r1deploy on this machine"
            raise LockedError("EVAL_BUSY", message, fix="wait until it has ended") from None
        yield
