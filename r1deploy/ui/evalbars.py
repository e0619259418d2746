"""Progress of eval: a bar with the time left for each set, in the order in which they are asked."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from r1deploy.ui.lines import width
from r1deploy.ui.terminal import over, say
from r1deploy.units import duration

if TYPE_CHECKING:
    from r1deploy.ansible.events import Event

CELLS = 20
# Without a terminal: a line now and then, for a log.
EVERY_SECONDS = 30


class EvalBars:
    """A line a set: written over on a terminal until it is done, now and then a line of its own without one."""

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()
        # Set → when it was first seen to move, and how far it was then.
        self._begins: dict[str, tuple[float, int]] = {}
        self._last: dict[str, int] = {}
        self._said = 0.0

    def event(self, event: Event) -> None:
        """Ansible has no part in it."""

    def bar(self, what: str, done: int, total: int) -> None:
        """Take how many of a set's questions have their answer."""
        if not total or self._last.get(what, 0) == done:
            return
        now = time.monotonic()
        self._last[what] = done
        self._begins.setdefault(what, (now, done))
        whole = done >= total
        if whole or now - self._said > (0 if self._tty else EVERY_SECONDS):
            self._said = now
            text = self.line(what, done, total, now)
            if self._tty:
                over(text[: width()], last=whole)
            else:
                say(text)

    def line(self, what: str, done: int, total: int, now: float) -> str:
        """``GSM8K [####......] 412/1319, 35 min left``; nothing of the time before it can be told."""
        began, had = self._begins[what]
        rate = (done - had) / max(now - began, 0.1)
        left = f", {duration((total - done) / rate)} left" if rate > 0 and done < total else ""
        filled = CELLS * done // total
        return f"{what} [{'#' * filled}{'.' * (CELLS - filled)}] {done}/{total}{left}"
