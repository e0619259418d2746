"""Lines of logs with the names of the hosts that say them."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from r1deploy.cluster.ranges import FEWEST, brief, spoken
from r1deploy.ui.lines import counted
from r1deploy.ui.terminal import show_headed

if TYPE_CHECKING:
    from r1deploy.verbs.logs import Show

# Columns for names where many hosts stand together; how many different counts the last line names.
NAME_COLUMNS, MOST_COUNTS = 24, 4
# One a host in turn; what several hosts say is in none, so that the odd one stands out.
COLOURS = ("36", "33", "32", "35", "34", "31")


def coloured() -> bool:
    """Whether standard output is a terminal that shows colours, and nobody forbids them."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")


class LogLines:
    """Shows the lines of hosts, and counts them."""

    def __init__(self) -> None:
        self._hosts: Sequence[str] = ()
        self._room = 0
        self._colours: dict[str, str] = {}
        self._common = 0
        self._own: Counter[str] = Counter()
        self._heard: set[str] = set()

    def begin(self, hosts: Sequence[str]) -> Show:
        """What shows a line. In: all hosts that may say one."""
        self._hosts = hosts
        together = len(brief(hosts, NAME_COLUMNS)) if len(hosts) >= FEWEST else 0
        self._room = max([*map(len, hosts), min(together, NAME_COLUMNS)])
        colours = coloured()
        self._colours = {host: COLOURS[at % len(COLOURS)] if colours else "" for at, host in enumerate(hosts)}
        return self.show

    def show(self, hosts: tuple[str, ...], line: str) -> None:
        """A line, on standard output."""
        alone = len(hosts) == 1
        names = hosts[0] if alone else brief(hosts, self._room)
        self._common += len(hosts) == len(self._hosts)
        self._own.update(hosts if alone else ())
        self._heard.update(hosts)
        show_headed(f"{names.ljust(self._room)} | ", line, self._colours[hosts[0]] if alone else "")

    def summary(self) -> list[str]:
        """How many lines all hosts say, and which hosts have lines of their own, or none; nothing of two hosts."""
        return ["; ".join(self._counts())] if len(self._hosts) >= FEWEST else []

    def _counts(self) -> Iterator[str]:
        yield f"{counted(self._common, 'line')} on all {len(self._hosts)} hosts"
        by_count: dict[int, list[str]] = {}
        for host in self._hosts:
            if self._own[host]:
                by_count.setdefault(self._own[host], []).append(host)
        kinds = sorted(by_count.items(), key=lambda row: len(row[1]))
        for number, hosts in kinds[:MOST_COUNTS]:
            yield f"{spoken(hosts)}: {counted(number, 'line')} of {'its' if len(hosts) == 1 else 'their'} own"
        left = sum(len(hosts) for _, hosts in kinds[MOST_COUNTS:])
        if left:
            yield f"{counted(left, 'host')} more with lines of their own"
        none = [host for host in self._hosts if host not in self._heard]
        if none:
            yield f"{spoken(none)}: no lines"
