"""The log of a run at the controller: one JSON line an event, redacted, pruned."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from r1deploy.ansible.events import Event
from r1deploy.settings import redact

KEEP = 50
KEEP_CRASHES = 20
# Of one text of a line; the whole of it is on the terminal or in a host's own log.
LONGEST = 16_000
# A result's fields that are worth keeping and never hold a variable's value.
FIELDS = ("msg", "rc", "stderr", "stdout", "tail")


def state_home() -> Path:
    """Where logs are kept."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "r1deploy"


def private_folder(path: Path) -> Path:
    """Make a folder, and what is missing above it, for its owner alone, whatever the umask is. Raises OSError."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    return path


def private_file(path: Path) -> TextIO:
    """A new file for its owner alone; what UTF-8 cannot say is escaped. Raises OSError, also where there is one."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    return os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace")


def write_crash(text: str) -> Path:
    """Keep the traceback of a bug, without its secrets, in a file of its own; the newest are kept. Raises OSError."""
    folder = private_folder(state_home() / "crashes")
    path = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**9:09d}-{os.getpid()}.txt"
    with private_file(path) as stream:
        stream.write(redact.text(redact.hide(text)))
    for old in sorted(folder.glob("*.txt"))[:-KEEP_CRASHES]:
        old.unlink(missing_ok=True)
    return path


class Journal:
    """One run's log, made with its first line. One that cannot be written costs the log, never the run.

    In: the cluster's name, the verb, and who else takes the events. ``path`` is None while there is no log.
    """

    def __init__(self, cluster: str, verb: str, show: Callable[[Event], None]) -> None:
        self._show = show
        self.id = uuid.uuid4().hex[:12]
        self.path: Path | None = None
        self._cluster, self._verb = cluster, verb
        self._stream: TextIO | None = None
        self._begun = False

    def _begin(self) -> None:
        self._begun = True
        folder = state_home() / "runs" / self._cluster
        with contextlib.suppress(OSError):
            private_folder(folder)
            path = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{self.id}-{self._verb}.jsonl"
            self._stream = private_file(path)
            self.path = path
            for old in sorted(folder.glob("*.jsonl"))[:-KEEP]:
                old.unlink(missing_ok=True)

    def event(self, event: Event) -> None:
        """Take one event of Ansible."""
        if event.kind not in ("skipped", "start"):
            result = {key: event.result[key] for key in FIELDS if event.result.get(key)}
            lane = {"lane": event.lane} if event.lane else {}
            self.write(kind=event.kind, step=event.step, task=event.task, host=event.host, result=result, **lane)
        self._show(event)

    def write(self, **row: Any) -> None:
        """Add one line."""
        if not self._begun:
            self._begin()
        if self._stream:
            with contextlib.suppress(OSError):
                line = json.dumps({"time": round(time.time(), 3), **redact.hide_in(row, _logged)})
                self._stream.write(line + "\n")
                self._stream.flush()


def _logged(text: str) -> str:
    """A text as the log keeps it: secrets first, since half a secret is one too."""
    hidden = redact.hide(text)
    return hidden if len(hidden) <= LONGEST else f"{hidden[:LONGEST]}… ({len(hidden) - LONGEST} more)"


def logs_of(cluster: str) -> dict[str, str]:
    """Run id → path of its log on this machine, for the runs that did anything."""
    paths = (state_home() / "runs" / cluster).glob("*-*-*.jsonl")
    # An older r1deploy made an empty one for each run.
    return {path.name.split("-")[1]: str(path) for path in paths if path.stat().st_size}
