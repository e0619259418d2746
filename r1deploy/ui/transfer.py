"""Progress of what takes hours: a bar with rate and time left, over all hosts together."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from r1deploy.cluster.ranges import spoken
from r1deploy.ui.lines import width
from r1deploy.ui.terminal import over, say
from r1deploy.units import duration, size_of

if TYPE_CHECKING:
    from r1deploy.ansible.events import Event


class Transfer:
    """Bytes of many hosts as one line: written over on a terminal, now and then a line of its own without one."""

    def __init__(self, what: str) -> None:
        self._what, self._tty = what, sys.stderr.isatty()
        self._rows: dict[str, tuple[int, int]] = {}
        self._begin: tuple[float, int] | None = None
        self._shown, self._lock = 0.0, threading.Lock()

    def event(self, event: Event) -> None:
        """Ansible has no part in it."""

    def bar(self, host: str, done: int, total: int) -> None:
        """Take a host's bytes; rows without a total are signs of life only."""
        if not total:
            return
        with self._lock:
            fresh = self._rows.get(host) != (done, total)
            self._rows[host] = (done, total)
            have, whole = (sum(column) for column in zip(*self._rows.values(), strict=True))
            now = time.monotonic()
            if self._begin is None or have < self._begin[1]:
                self._begin = (now, have)
            if fresh and (have == whole or now - self._shown > (1 if self._tty else 10)):
                self._shown = now
                self._show(have, whole, now)

    def _show(self, have: int, whole: int, now: float) -> None:
        assert self._begin is not None
        rate = (have - self._begin[1]) / max(now - self._begin[0], 0.1)
        left = f", {duration((whole - have) / rate)} left" if rate > 0 and have < whole else ""
        filled = 20 * have // whole
        bar = f"[{'#' * filled}{'.' * (20 - filled)}] {size_of(have)} of {size_of(whole)}"
        text = f"{self._what} {spoken(sorted(self._rows), 2)} {bar}, {size_of(int(rate))}/s{left}"
        if self._tty:
            over(text[: width()], last=have == whole)
        else:
            say(text)
