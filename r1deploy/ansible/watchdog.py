"""What ends connections that OpenSSH keeps open when the run that opened them was killed and cannot.

Such a connection is nobody's child. Each has the folder of its socket in its name, and so it is found.

Standard library only; run by its path: ``python -I -S watchdog.py FOLDER``, the run's end of the pipe as its input.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

# Processes that wait for a dead file server cannot be ended; nobody waits for those.
PATIENCE_SECONDS = 10.0


def end_marked(folder: Path) -> None:
    """End what has a folder in its environment or arguments, but for this process."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        pids = marked(folder)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not pids:
            return
        time.sleep(0.01)


def marked(folder: Path) -> list[int]:
    """Processes other than this one that know the folder of a run."""
    pids, mark = [], bytes(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            known = mark in (entry / "environ").read_bytes() or mark in (entry / "cmdline").read_bytes()
            if known and int(entry.name) != os.getpid():
                pids.append(int(entry.name))
    return pids


def main(folder: Path) -> None:
    """Wait for the end of the run, then end what it left and remove the folder."""
    sys.stdin.buffer.read()
    end_marked(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
