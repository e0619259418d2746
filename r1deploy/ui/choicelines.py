"""The block of ``plan`` that says what was chosen, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from r1deploy.ui.lines import wrap

if TYPE_CHECKING:
    from r1deploy.observe.choices import Choice


def choice_lines(choices: Iterable[Choice]) -> list[str]:
    """A line a choice of the cluster, a line a host; names with the same value and origin together."""
    rows = ["Choices:"]
    for host, mine in groupby(choices, key=lambda row: row.host):
        texts = [
            f"{', '.join(row.name for row in same)} {value} ({source})"
            for (value, source), same in groupby(mine, key=lambda row: (row.value, row.source))
        ]
        for text in ["; ".join(texts)] if host else texts:
            rows += wrap(text, f"  {host}  " if host else "  ", " " * 4)
    return rows
