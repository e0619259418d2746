"""Lines of many hosts in one order: what several say is there once, each host's own order stays."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence

from r1deploy.cluster.alike import nameless

# What differs between two lines that say the same: when it was, and the process that said it.
_WHEN = re.compile(
    r"(?<!\d)(\d{4}-)?\d\d-\d\d(?=[ T]\d\d:)|(?<![\d:.])\d\d:\d\d:\d\d([.,]\d+)?(?![\d:])|(?<=\bpid[=: ])\d+"
)


def timeless(host: str, line: str) -> str:
    """A line to compare it with those of other hosts: without times, the host's own name, addresses."""
    return _WHEN.sub("", nameless(host, line))


def merged(lines: Mapping[str, Sequence[str]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Hosts, and a line that they say there, in the words of the first of them.

    In: each host's lines. A line waits until all hosts that are still to say it have come to it; where they never will
    at the same time, the first host goes on.
    """
    left = {host: deque((timeless(host, line), line) for line in mine) for host, mine in lines.items() if mine}
    # How many hosts still have a line, and how often each of them.
    often = {host: Counter(key for key, _ in mine) for host, mine in left.items()}
    having = Counter(key for mine in often.values() for key in mine)
    at: dict[str, list[str]] = {}
    for host, mine in left.items():
        at.setdefault(mine[0][0], []).append(host)
    turn = ""
    while left:
        order = (turn, *left) if turn in left else tuple(left)
        heads = (left[host][0][0] for host in order)
        key = next((key for key in heads if len(at[key]) == having[key]), left[order[0]][0][0])
        there = set(at.pop(key))
        hosts = [host for host in left if host in there]
        line = left[hosts[0]][0][1]
        yield tuple(hosts), line
        turn = hosts[0]
        for host in hosts:
            left[host].popleft()
            often[host][key] -= 1
            having[key] -= not often[host][key]
            if left[host]:
                at.setdefault(left[host][0][0], []).append(host)
            else:
                del left[host]
