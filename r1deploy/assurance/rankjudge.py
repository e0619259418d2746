"""The judge of the collectives: which rank did not come, failed or summed wrongly; a line an operation. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from r1deploy.assurance.wirejudge import Hosts, WireFinding, listed, rows_of
from r1deploy.assurance.wirerows import AbsentRow, CollectiveRow, Operation, RankRow, WireRow
from r1deploy.units import size_of

# A rank that asked another one through torch's store, and got no answer: "… ncclUniqueId from [0] via c10d …".
_ASKED = re.compile(r"\bfrom \[(\d{1,6})\] via c10d\b")


@dataclass(frozen=True)
class CollectiveLine:
    """A line of the table: as the slowest rank saw it."""

    operation: Operation
    bytes: int
    ranks: int
    seconds: float
    gbs: float
    exact: bool


def judge_ranks(hosts: Hosts, names: Sequence[str]) -> list[WireFinding]:
    """All ranks of one run. In: what each host said, and the names of all ranks in their order."""
    rows = [row for each in hosts.values() for row in each]
    ended = {row.rank: row for row in rows_of(rows, RankRow)}
    absent = {rank for row in rows_of(rows, AbsentRow) for rank in row.ranks}
    silent = {rank for rank in range(len(names)) if rank not in ended}
    found = []
    if gone := sorted((absent | silent) & set(range(len(names)))):
        missing = [names[rank] for rank in gone if rank not in ended or not _failed_alone(ended[rank])]
        if missing:
            found.append(WireFinding("error", "RANKS_MISSING", listed(missing), "did not come to the other ranks"))
    return [*found, *_failed(ended, names, bool(absent)), *_inexact(rows, names)]


def _failed_alone(row: RankRow) -> bool:
    """Whether it failed for a reason of its own."""
    return row.ended != "done" and not row.last.startswith("Absence:")


def _follows(row: RankRow, ended: dict[int, RankRow]) -> bool:
    """Whether it failed because a rank that it asked had failed."""
    asked = _ASKED.search(row.last)
    other = ended.get(int(asked[1])) if asked else None
    return other is not None and other is not row and other.ended != "done" and not _ASKED.search(other.last)


def _failed(ended: dict[int, RankRow], names: Sequence[str], has_absent: bool) -> list[WireFinding]:
    """Ranks that failed, by what the library said and when; those that waited for others in vain are not to blame."""
    groups: dict[tuple[str, str], list[str]] = {}
    for rank, row in sorted(ended.items()):
        if not _follows(row, ended) and (_failed_alone(row) or (row.ended != "done" and not has_absent)):
            groups.setdefault((row.last, row.doing), []).append(_name(rank, names))
    return [
        WireFinding("error", "RANK_FAILED", listed(of), f"{last or 'it ended'} ({doing or 'start'})")
        for (last, doing), of in groups.items()
    ]


def _name(rank: int, names: Sequence[str]) -> str:
    return names[rank] if rank < len(names) else f"rank {rank}"


def _inexact(rows: Sequence[WireRow], names: Sequence[str]) -> list[WireFinding]:
    wrong: dict[int, list[str]] = {}
    for row in rows_of(rows, CollectiveRow):
        if not row.exact:
            wrong.setdefault(row.rank, []).append(f"{row.operation} of {size_of(row.bytes)}")
    return [
        WireFinding("error", "SUMS_WRONG", _name(rank, names), f"what came out is not exact: {listed(what)}")
        for rank, what in wrong.items()
    ]


def collective_table(hosts: Hosts) -> list[CollectiveLine]:
    """A line an operation and size, in the order of the run."""
    groups: dict[tuple[Operation, int], list[CollectiveRow]] = {}
    for rows in hosts.values():
        for row in rows_of(rows, CollectiveRow):
            groups.setdefault((row.operation, row.bytes), []).append(row)
    return [
        CollectiveLine(
            operation=operation,
            bytes=size,
            ranks=len({row.rank for row in rows}),
            seconds=max(row.seconds for row in rows),
            gbs=min(row.gbs for row in rows),
            exact=all(row.exact for row in rows),
        )
        for (operation, size), rows in groups.items()
    ]
