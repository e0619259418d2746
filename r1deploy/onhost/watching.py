"""Run a program and say how far it is, until it ends; it ends with us."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from typing import Callable, Mapping, NamedTuple, Sequence

from .saying import TICK, say

POLITE_SECONDS = 10
KEPT_LINES = 200


class Measure(NamedTuple):
    """How much is to come, and what tells how much of it is there."""

    done: Callable[[], int]
    total: int

    def say(self) -> None:
        """One row to the controller."""
        say("progress", done=min(self.done(), self.total), total=self.total)


# For work of a moment.
NO_MEASURE = Measure(lambda: 0, 0)


def watched(argv: Sequence[str], environment: Mapping[str, str], measure: Measure) -> tuple[int, list[str]]:
    """(exit code, last lines) of a program that reads nothing. In: what is added to its environment.

    Raises OSError, also where nobody reads us any more: then the program is ended.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **environment},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            while process.poll() is None:
                measure.say()
                time.sleep(TICK)
        finally:
            _end(process)
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
    measure.say()
    return process.returncode, [line for line in lines if line.strip()][-KEPT_LINES:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started, politely first; nothing where it has ended."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(POLITE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
