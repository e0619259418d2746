"""What is said of many hosts, once: hosts of which the same is said stand together."""

from __future__ import annotations

import re
from collections.abc import Iterable

from r1deploy.cluster.ranges import FEWEST

_ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(\.\d{1,3}){3}(?![\w.])")
# Nobody's name: what stands for a host's own name or address while texts are compared.
_OWN = "\0"


def nameless(host: str, text: str) -> str:
    """A text without the host's own name and without addresses, to compare it with that of another host."""
    return _ADDRESS.sub(_OWN, re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", _OWN, text))


def alike(rows: Iterable[tuple[str, str]]) -> list[tuple[tuple[str, ...], str]]:
    """Hosts with what is said of them, in the order in which each text came first.

    In: host and text. Out: hosts of which the same is said but for their own names and addresses, and the first one's
    text, which then says whose it is. Fewer than three such hosts keep texts of their own.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for host, text in rows:
        groups.setdefault(nameless(host, text), []).append((host, text))
    found: list[tuple[tuple[str, ...], str]] = []
    for group in groups.values():
        hosts = tuple(dict.fromkeys(host for host, _ in group))
        if len(hosts) < FEWEST:
            found += [((host,), text) for host, text in group]
        else:
            found.append((hosts, one_of(group)))
    return found


def one_of(group: list[tuple[str, str]]) -> str:
    """The first text; where it is not the same for all, with the host of which it speaks."""
    host, text = group[0]
    return text if all(other == text for _, other in group) else f"{text} (said of {host})"
