"""How far ``diag`` is: a row a host on a terminal; without one, a line where a host begins something."""

from __future__ import annotations

import threading
import time

from r1deploy.ansible.events import Event
from r1deploy.ui import lines
from r1deploy.ui.live import Table

# Seconds without a line of a host, where there is no terminal.
QUIET = 15.0


class Told:
    """Takes what the hosts do, from several threads."""

    def __init__(self, shown: lines.Progress) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._said: dict[str, tuple[str, str, float]] = {}

    def __call__(self, part: str, host: str, words: str) -> None:
        """Take what a host does: ``what it is at: how far it is``."""
        with self._lock:
            if isinstance(self._shown, Table):
                self._shown.event(Event("start", part, words, host))
                return
            what, now = words.partition(":")[0], time.monotonic()
            *before, at = self._said.get(host, ("", "", 0.0))
            if before != [part, what] or now - at > QUIET:
                self._said[host] = (part, what, now)
                lines.say(self._shown.line(part, f"{host}: {words}"))
