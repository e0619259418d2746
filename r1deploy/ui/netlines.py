"""What ``diag network`` found, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from r1deploy.ui.lines import table, wrap
from r1deploy.units import size_of

if TYPE_CHECKING:
    from r1deploy.assurance.network import NetworkResult
    from r1deploy.assurance.rankjudge import CollectiveLine
    from r1deploy.assurance.wirejudge import WireLine


def network_lines(found: NetworkResult) -> Iterator[str]:
    """The pairs, the collectives of each library, and what could not be measured."""
    if found.table:
        yield from (f"  {row}" for row in table(wire_cells(found.table)))
    for run in found.collectives:
        if run.lines:
            yield from (f"  {row}" for row in table(collective_cells(run.library, run.lines)))
    for note in found.notes:
        yield from wrap(note, "  ", "    ")


def figure(value: float | None, digits: int = 3) -> str:
    """A number as a cell."""
    return "-" if value is None else f"{value:.{digits}g}"


def wire_cells(rows: list[WireLine]) -> list[list[str]]:
    """A row each direction of each pair; the hosts stand last, since their names may be long."""
    cells = [["ports", "ms", "Gbit/s of 1", "of all", "MTU", "clock s", "by", "from → to"]]
    for row in rows:
        numbers = [figure(row.delay_ms), figure(row.one_gbit), figure(row.all_gbit)]
        mtu = "-" if row.mtu is None else str(row.mtu)
        way = [mtu, figure(row.offset, 2), row.interface or "-", f"{row.source} → {row.target}"]
        cells.append([row.ports, *numbers, *way])
    return cells


def collective_cells(library: str, rows: list[CollectiveLine]) -> list[list[str]]:
    """A row an operation and size, as the slowest rank saw it."""
    cells = [[library, "size", "ranks", "ms", "GB/s", "sums"]]
    for row in rows:
        sums = "exact" if row.exact else "not exact"
        speed = [figure(1000 * row.seconds), figure(row.gbs)]
        cells.append([row.operation, size_of(row.bytes), str(row.ranks), *speed, sums])
    return cells
