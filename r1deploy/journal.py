"""The log of a run at the controller: one JSON line an event, redacted, pruned."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from r1deploy.runner.events import Event

KEEP = 50
# A result's fields that are worth keeping and never hold a variable's value.
FIELDS = ("msg", "rc", "stderr", "stdout", "tail")


def state_home() -> Path:
    """Where logs are kept."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "r1deploy"


class Journal:
    """One run's log. A folder that cannot be written costs the log, never the run: ``path`` is None then."""

    def __init__(self, cluster: str, verb: str, show: Callable[[Event], None] | None = None) -> None:
        self._show = show
        self._stream: TextIO | None = None
        self.path: Path | None = None
        folder = state_home() / "runs" / cluster
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{verb}.jsonl"
            self._stream = path.open("w", encoding="utf-8")
            path.chmod(0o600)
            self.path = path
            for old in sorted(folder.glob("*.jsonl"))[:-KEEP]:
                old.unlink(missing_ok=True)

    def event(self, event: Event) -> None:
        """Take one event of Ansible."""
        if event.kind not in ("skipped", "start"):
            result = {key: event.result[key] for key in FIELDS if event.result.get(key)}
            self.write(kind=event.kind, step=event.step, task=event.task, host=event.host, result=result)
        if self._show:
            self._show(event)

    def write(self, **row: Any) -> None:
        """Add one line."""
        if self._stream:
            with contextlib.suppress(OSError):
                self._stream.write(json.dumps({"time": round(time.time(), 3), **row}, default=str)[:20000] + "\n")
                self._stream.flush()
