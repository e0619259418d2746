"""A plan for people: a row a change on one or two hosts; on more, hosts with the same changes stand together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from r1deploy.cluster.ranges import FEWEST, brief, spoken
from r1deploy.ui.lines import check_lines, counted, moved_lines, wrap

if TYPE_CHECKING:
    from r1deploy.observe.view import View
    from r1deploy.planning.changes import Change
    from r1deploy.planning.planner import Plan

# Of one step, where the hosts stand together; -v has the rest.
MOST_GROUPS, MOST_ROWS, MOST_FIELDS, MOST_VALUES = 4, 4, 3, 2
MOST_LETTERS = 60
INDENT = " " * 14
_HASH = re.compile(r"\b[0-9a-f]{12}\b")

Said = tuple[str, ...]


def plan_lines(plan: Plan, verbose: bool) -> list[str]:
    """What would change, by step and host; with -v each change and why the rest stays."""
    hosts = list(dict.fromkeys([*(row.host for row in plan.noops), *(row.host for row in plan.changes)]))
    together = len(hosts) >= FEWEST
    if together and not verbose:
        rows = wide_rows(plan.changes)
    else:
        said = [(row.step, row.host, sentence(row)) for row in plan.changes]
        if verbose:
            said += [(row.step, row.host, f"= {row.reason}") for row in plan.noops]
        rows = whole_rows(said, together)
    if not plan.changes:
        return [*rows, "Nothing to change."]
    changed = {row.host for row in plan.changes}
    total = f"{counted(len(plan.changes), 'change')} on {counted(len(changed), 'host')}"
    if not together or len(changed) < FEWEST:
        return [*rows, f"{total}."]
    return [*rows, *wrap(f"{total}: {'; '.join(shares(plan.changes, hosts))}.", "", "  ")]


def cause_lines(causes: Iterable[str], locks: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Why something changes: settings, as ``verbs.plan.causes`` has them, and what moves in the lock file."""
    moved = {row[0] for row in locks}
    said = (cause for cause in causes if cause.partition(":")[0] not in moved)
    return [*(line for cause in said for line in wrap(cause, "  cause     ", INDENT)), *moved_lines(locks)]


def sentence(row: Change) -> str:
    """One change in words."""
    return f"{row.field}: {row.current} → {row.desired} ({row.reason})"


def whole_rows(said: Sequence[tuple[str, str, str]], together: bool) -> list[str]:
    """A row a sentence and host, or with ``together`` a row a sentence. In: step, host, sentence."""
    groups: dict[Said, list[str]] = {}
    for step, host, text in said:
        groups.setdefault((step, text) if together else (step, text, host), []).append(host)
    rows: list[str] = []
    for (step, text, *_), hosts in groups.items():
        rows += wrap(f"{spoken(hosts, most=None)}  {text}", f"  {step:<9} ", INDENT)
    return rows


def key_of(row: Change) -> Said:
    """What makes changes of two hosts the same: all but the hash of a file that each host has its own of."""
    return (row.step, row.field, row.current, _HASH.sub("#", row.desired), row.reason)


def same_hosts(changes: Iterable[Change]) -> list[tuple[list[str], list[Change]]]:
    """Hosts with the same changes, and all these changes."""
    by_host: dict[str, list[Change]] = {}
    for row in changes:
        by_host.setdefault(row.host, []).append(row)
    groups: dict[tuple[Said, ...], tuple[list[str], list[Change]]] = {}
    for host, mine in by_host.items():
        hosts, rows = groups.setdefault(tuple(map(key_of, mine)), ([], []))
        hosts.append(host)
        rows += mine
    return list(groups.values())


def wide_rows(changes: Iterable[Change]) -> list[str]:
    """Each step with the hosts that have the same to do; what differs in its name only stands in one row."""
    steps: dict[str, list[Change]] = {}
    for row in changes:
        steps.setdefault(row.step, []).append(row)
    rows: list[str] = []
    for step, mine in steps.items():
        groups = same_hosts(mine)
        for hosts, theirs in groups[:MOST_GROUPS]:
            rows += group_rows(step, hosts, theirs)
        left = [host for hosts, _ in groups[MOST_GROUPS:] for host in hosts]
        if left:
            rows += wrap(
                f"{counted(len(left), 'host')} more, each with changes of its own (-v)", f"  {step:<9} ", INDENT
            )
    return rows


def group_rows(step: str, hosts: list[str], changes: Iterable[Change]) -> Iterator[str]:
    """The changes of equal hosts in one step; those for one reason in one row."""
    reasons: dict[Said, list[Change]] = {}
    for row in changes:
        reasons.setdefault((row.current, _HASH.sub("#", row.desired), row.reason), []).append(row)
    first, names = f"  {step:<9} ", f"{brief(hosts, MOST_LETTERS)}  "
    for (current, _, reason), mine in list(reasons.items())[:MOST_ROWS]:
        fields = some([row.field for row in mine], MOST_FIELDS)
        values = some([row.desired for row in mine], MOST_VALUES)
        yield from wrap(f"{names}{fields}: {clipped(current)} → {values} ({reason})", first, INDENT)
        first, names = INDENT, ""
    left = {row.field for rows in list(reasons.values())[MOST_ROWS:] for row in rows}
    if left:
        yield f"{INDENT}and {counted(len(left), 'change')} more (-v)"


def some(texts: Iterable[str], most: int) -> str:
    """The first of different texts; how many more there are."""
    different = list(dict.fromkeys(texts))
    left = len(different) - most
    return ", ".join(map(clipped, different[:most])) + (f" and {left} more" if left > 0 else "")


def clipped(text: str) -> str:
    """A value that fits in a row."""
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def shares(changes: Sequence[Change], hosts: Sequence[str]) -> list[str]:
    """How many changes each host has; hosts with the same ones together, the odd ones by themselves."""
    said = []
    groups = same_hosts(changes)
    for mine, rows in groups[:MOST_GROUPS]:
        each = " each" if len(mine) > 1 else ""
        said.append(f"{brief(mine, MOST_LETTERS)}: {counted(len(rows) // len(mine), 'change')}{each}")
    left = sum(len(mine) for mine, _ in groups[MOST_GROUPS:])
    changed = {row.host for row in changes}
    idle = [host for host in hosts if host not in changed]
    return [
        *said,
        *([f"{left} more with others"] if left else []),
        *([f"{brief(idle, MOST_LETTERS)}: none"] if idle else []),
    ]


def done_lines(applied: Plan, view: View, verbose: bool) -> list[str]:
    """What a bootstrap ended with. In: the plan that was applied, the view after it."""
    rows = plan_lines(view.plan, True) if verbose and not applied.changes else []
    of, skipped = len(view.desired.hosts), list(view.probed.failures)
    where = f"all {of} hosts" if not skipped else f"{of - len(skipped)} of {of} hosts"
    blockers = view.plan.blockers("serve")
    ending = "Not ready to serve:" if blockers else "Ready to serve."
    ending = f"Not ready to serve: {spoken(skipped)} was skipped." if skipped else ending
    release = f"release {view.desired.release.id} is on {where}"
    said = f"Nothing to do: {release}. {ending}" if not applied.changes else f"R{release[1:]}, verified. {ending}"
    return [*rows, *wrap(said, "", ""), *check_lines(blockers, False)]
