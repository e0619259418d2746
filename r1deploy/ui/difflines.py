"""What differs inside the files that a plan would change; hosts with the same difference stand together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from r1deploy.cluster.alike import nameless
from r1deploy.cluster.ranges import spoken
from r1deploy.ui.lines import counted, width, wrap
from r1deploy.ui.terminal import shown

if TYPE_CHECKING:
    from r1deploy.planning.filediffs import FileDiff

# Of one file: how many different diffs, and how many lines each.
MOST_DIFFS, MOST_LINES = 4, 40
INDENT = " " * 4


def diff_lines(diffs: Iterable[FileDiff]) -> list[str]:
    """A block a file and difference."""
    files: dict[tuple[str, bool], dict[tuple[object, ...], list[FileDiff]]] = {}
    for diff in diffs:
        same = (diff.why, *(nameless(diff.host, line) for line in diff.lines))
        files.setdefault((diff.file, diff.edited), {}).setdefault(same, []).append(diff)
    rows: list[str] = []
    for (file, _), groups in files.items():
        kinds = list(groups.values())
        for mine in kinds[:MOST_DIFFS]:
            rows += block(mine)
        left = sum(map(len, kinds[MOST_DIFFS:]))
        rows += [f"  diff      {file}: {counted(left, 'host')} more, each with a difference of its own"] if left else []
    return rows


def block(mine: list[FileDiff]) -> Iterator[str]:
    """One difference of hosts that have it in common."""
    first = mine[0]
    said = f" (said of {first.host})" if len({diff.lines for diff in mine}) > 1 else ""
    edited = ", edited by hand" if first.edited else ""
    why = f": {first.why}" if first.why else ""
    yield from wrap(
        f"{first.file} on {spoken(diff.host for diff in mine)}{edited}{why}{said}", "  diff      ", " " * 14
    )
    for line in first.lines[:MOST_LINES]:
        yield from folded(shown(line.replace("\t", "    ")))
    if len(first.lines) > MOST_LINES:
        yield f"{INDENT}… {counted(len(first.lines) - MOST_LINES, 'line')} more"


def folded(line: str) -> Iterator[str]:
    """A line of a diff in as many rows as it needs: spaces count in it. Each row begins with its sign."""
    room = width() - len(INDENT) - 1
    sign, text = line[:1], line[1:]
    for at in range(0, max(len(text), 1), room):
        yield f"{INDENT}{sign}{text[at : at + room]}".rstrip()
