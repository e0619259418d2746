"""``diag network`` in the containers: an all-reduce and a broadcast over all hosts, then over all chips."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1deploy.assurance.inside import Heard, Work, work_inside
from r1deploy.assurance.netwires import Site, Wires
from r1deploy.assurance.rankjudge import CollectiveLine, collective_table, judge_ranks
from r1deploy.assurance.wirejudge import WireFinding, rows_of
from r1deploy.assurance.wirerows import AbsentRow, CollectiveRow, ListeningRow, PortRow, RankRow, WireRow, wire_rows_in
from r1deploy.errors import R1Error
from r1deploy.together import together
from r1deploy.units import size_of

KIB, MIB = 1 << 10, 1 << 20
# Seconds that ranks wait for each other; that a container may take to start them.
WAIT, START = 20.0, 10.0
NO_TORCH = "ModuleNotFoundError: No module named 'torch'"


@dataclass(frozen=True)
class CollectiveRun:
    """One library over all ranks. ``rows`` by host."""

    library: str
    lines: list[CollectiveLine]
    findings: list[WireFinding]
    rows: Mapping[str, Sequence[WireRow]]


@dataclass(frozen=True)
class Library:
    """What moves the data: PyTorch's name of it, of the device, and the sizes in bytes."""

    name: str
    device: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Ranks:
    """How many of each host, in their order, and where they meet: an address and a port of the first host."""

    counts: Mapping[str, int]
    address: str
    port: int

    def names(self, each: str) -> list[str]:
        """Of all ranks. In: the name of one rank, made of ``{host}`` and ``{number}``."""
        return [each.format(host=host, number=number) for host, count in self.counts.items() for number in range(count)]

    def of(self, host: str) -> list[int]:
        """The ranks of one host."""
        before = 0
        for name, count in self.counts.items():
            if name == host:
                return list(range(before, before + count))
            before += count
        return []


def chips_of(site: Site, name: str) -> int:
    """The chips of a host that the engine takes: the inventory's, but not more than are seen there."""
    slots = next(host.slots for host in site.hosts if host.name == name)
    seen = site.observed.get(name)
    return min(slots, len(seen.chips.chips) or slots) if seen else slots


def free_ports(site: Site, wires: Wires) -> list[int]:
    """High ports of the first host that it could listen on, those first that all others reached."""
    head = site.hosts[0].name
    free = {port for row in rows_of(wires.rows[head], ListeningRow) for port in row.ports} & set(wires.high_ports)
    tried = [row for rows in wires.rows.values() for row in rows_of(rows, PortRow) if row.to == head]
    return sorted(free, key=lambda port: (sum(row.port == port and row.result != "open" for row in tried), port))


def measure_collectives(site: Site, wires: Wires) -> tuple[list[CollectiveRun], list[str]]:
    """Gloo over all hosts, then the vendor's library over all chips. Returns (the runs, notes)."""
    if not site.hosts:
        return [], []
    ports, head = free_ports(site, wires), site.hosts[0]
    hosts, chips = dict.fromkeys((host.name for host in site.hosts), 1), {}
    device = site.settings.chip.torch_device
    if device != "cpu":
        chips = {name: count for name in hosts if (count := chips_of(site, name))}
    plan = [
        (Library("gloo", "cpu", (KIB, MIB, 64 * MIB)), hosts, "{host}"),
        (Library("nccl", device, (KIB, MIB, 256 * MIB)), chips, "{host} chip {number}"),
    ]
    runs: list[CollectiveRun] = []
    notes: list[str] = []
    for number, (library, counts, each) in enumerate(plan):
        if sum(counts.values()) < 2:
            continue
        if not ports:
            return [], [f"no collectives: no free port is known on {head.name}"]
        ranks = Ranks(counts, head.address, ports[number % len(ports)])
        run, said = _measured(site, library, ranks, ranks.names(each))
        if without_torch(run):
            return [], [*said, "the image has no torch: no collectives"]
        runs.append(run)
        notes += said
        if any(finding.code == "RANKS_MISSING" for finding in run.findings):
            break  # they would be missed again
    return runs, list(dict.fromkeys(notes))


def without_torch(run: CollectiveRun) -> bool:
    """Whether no rank could begin, for want of PyTorch."""
    ended = [row for rows in run.rows.values() for row in rows_of(rows, RankRow)]
    return bool(ended) and all(row.last.startswith(NO_TORCH) for row in ended)


def _measured(site: Site, library: Library, ranks: Ranks, names: Sequence[str]) -> tuple[CollectiveRun, list[str]]:
    """One library over all ranks, all hosts at once. Returns (the run, notes)."""
    seconds = site.settings.diag.collective_seconds
    wait = min(WAIT, seconds / 4)
    order = {
        "backend": library.name,
        "device": library.device,
        "address": ranks.address,
        "port": ranks.port,
        "names": list(names),
        "wait": wait,
        "deadline": seconds - 2 * wait,  # of the library itself: the ranks have met before
        "sizes": library.sizes,
    }
    lines: dict[str, list[str]] = {name: [] for name in ranks.counts}
    works = {}
    for name in ranks.counts:
        work = Work("collectives", {**order, "ranks": ranks.of(name)}, seconds + START)
        works[name] = functools.partial(_on_host, site, name, work, lines[name])
    notes, rows = [], {}
    for name, said in together(works).items():
        told, refused = wire_rows_in(lines[name])
        rows[name] = own_rows(told, ranks.of(name))
        if others := len(told) - len(rows[name]):
            notes.append(f"{name}: {others} of its lines tell of other hosts' ranks")
        if isinstance(said, R1Error):
            notes.append(said.message)
        elif said.last:
            notes.append(f"{name}: {library.name}: {said.last}")
        if refused:
            notes.append(f"{name}: {refused} of its lines could not be read")
    return CollectiveRun(library.name, collective_table(rows), judge_ranks(rows, names), rows), notes


def own_rows(rows: Sequence[WireRow], ranks: Sequence[int]) -> list[WireRow]:
    """What a host says of its own ranks. Which ranks are absent is for rank 0 to say, and not of itself."""
    return [
        row
        for row in rows
        if (row.rank in ranks if isinstance(row, (RankRow, CollectiveRow)) else True)
        and (0 in ranks and 0 not in row.ranks if isinstance(row, AbsentRow) else True)
    ]


def _on_host(site: Site, name: str, work: Work, lines: list[str]) -> Heard:
    """The ranks of one host. The lines are taken as they come: an error in the middle loses none."""
    library: Any = work.order["backend"]
    site.told(name, f"{library}: waits for all ranks")

    def take(line: str) -> None:
        lines.append(line)
        for row in rows_of(wire_rows_in([line])[0], CollectiveRow):
            site.told(name, f"{library}: {row.operation} of {size_of(row.bytes)}")

    return work_inside(site.remotes[name], site.places[name], work, take)
