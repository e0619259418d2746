"""What ``checkpointwork`` says to the controller: marked lines of JSON, one at a time.

``progress`` rows at least once a second, at the end one ``done`` or ``error``.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any, Protocol, Sequence

# In front of each line to the controller: what else a host prints is none.
MARK = "r1:"
# Seconds between two rows.
TICK = 0.5
_WRITING = threading.Lock()


class Say(Protocol):
    """What takes a row for the controller."""

    def __call__(self, kind: str, **row: Any) -> None:
        """Take it. Raises OSError where nobody reads any more."""


class Refusal(Exception):
    """Work that cannot go on: a code, a sentence, the last lines of what failed."""

    def __init__(self, code: str, message: str, tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code, self.tail = code, list(tail)


def say(kind: str, **row: Any) -> None:
    """One row to the controller. Raises BrokenPipeError where nobody reads any more."""
    with _WRITING:
        sys.stdout.write(MARK + json.dumps(dict(row, kind=kind), separators=(",", ":")) + "\n")
        sys.stdout.flush()
