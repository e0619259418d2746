"""The block of ``plan`` that says what was chosen, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from r1deploy.cluster.alike import alike
from r1deploy.cluster.ranges import spoken
from r1deploy.ui.lines import wrap

if TYPE_CHECKING:
    from r1deploy.observe.choices import Choice


def choice_lines(choices: Iterable[Choice]) -> list[str]:
    """A line a choice of the cluster, a line a host; names with the same value and origin together.

    Hosts whose choices differ in their own address only stand in one line.
    """
    rows, said = ["Choices:"], []
    for host, group in groupby(choices, key=lambda row: row.host):
        mine = list(group)
        texts = [
            f"{', '.join(row.name for row in same)} {value} ({source})"
            for (value, source), same in groupby(map(short, mine), key=lambda row: (row.value, row.source))
        ]
        if host is None:
            rows += [line for text in texts for line in wrap(text, "  ", " " * 4)]
        else:
            said.append((host, "; ".join(texts)))
    for hosts, text in alike(said):
        rows += wrap(text, f"  {spoken(hosts)}  ", " " * 4)
    return rows


def short(row: Choice) -> Choice:
    """A choice whose value is names of hosts, in a few words."""
    return replace(row, value=spoken(row.value.split(", "))) if row.name == "hosts" else row
