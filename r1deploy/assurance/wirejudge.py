"""The judge of ``diag network`` between pairs of hosts: rows of all hosts → named findings and a table. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from r1deploy.assurance.wirerows import DelayRow, FlowRow, ListeningRow, PathRow, PortRow, Result, RouteRow, WireRow

Code = Literal[
    "WIRE_MISSING", "WIRE_PORT", "WIRE_NIC", "WIRE_MTU", "WIRE_SLOW", "WIRE_ONE_WAY", "WIRE_CLOCK",
    "RANKS_MISSING", "RANK_FAILED", "SUMS_WRONG",
]  # fmt: skip
Level = Literal["error", "warning"]
Hosts = Mapping[str, Sequence[WireRow]]
Kind = TypeVar("Kind", bound=WireRow)
Pair = tuple[str, str]
# Less than this share of what the other pairs have is slow; so many pairs make a median.
HALF, ENOUGH = 0.5, 3
# What is said of a direction that nobody tried; of more than so many it is said once.
UNTRIED, MOST_UNTRIED = "it was not tried", 8
# Milliseconds by which a round trip has to be longer than the others', beside being twice as long.
NOISE_MS = 0.2
# What one IP packet holds at the most: the MTU of loopback is larger.
LARGEST, TCP_HEADERS = 65535, 40
SAID: Mapping[Result, tuple[str, str]] = {
    "timeout": ("times out", "time out"),
    "refused": ("is refused", "are refused"),
    "reset": ("is reset", "are reset"),
    "unreachable": ("cannot be reached", "cannot be reached"),
    "failed": ("fails", "fail"),
    "other": ("is answered by something else", "are answered by something else"),
    "open": ("answers", "answer"),
}


@dataclass(frozen=True)
class Limits:
    """What no comparison between pairs can say: Gbit/s of all streams at the least, seconds, milliseconds."""

    floor_gbit: float
    clock: float = 1.0
    delay_ms: float = 5.0


@dataclass(frozen=True)
class WireFinding:
    """What is wrong with one direction of one pair, or with a host (``where``)."""

    level: Level
    code: Code
    where: str
    what: str

    def sentence(self) -> str:
        """``node1 → node2: tcp/9010 times out, 6379 and 49152 answer``."""
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class WireLine:
    """A line of the table; None where nothing was measured."""

    source: str
    target: str
    ports: str
    interface: str
    delay_ms: float | None
    one_gbit: float | None
    all_gbit: float | None
    mtu: int | None
    offset: float | None


class _Wire:
    """All that one host said of the way to another one."""

    def __init__(self, rows: Iterable[WireRow], pair: Pair, listening: ListeningRow | None) -> None:
        self.pair, self.where, self.listening = pair, " → ".join(pair), listening
        rows = [row for row in rows if getattr(row, "to", None) == pair[1]]
        self.ports = rows_of(rows, PortRow)
        self.route, self.delay = _last(rows, RouteRow), _last(rows, DelayRow)
        self.path = _last(rows, PathRow)
        flows = sorted(rows_of(rows, FlowRow), key=lambda row: row.streams)
        self.broken = [row for row in flows if row.gbit is None]
        measured = [row for row in flows if row.gbit is not None]
        self.one = next((row.gbit for row in measured if row.streams == 1), None)
        self.all = next((row.gbit for row in reversed(measured) if row.streams > 1), None)

    def finding(self, code: Code, what: str, level: Level = "error") -> WireFinding:
        return WireFinding(level, code, self.where, what)


def rows_of(rows: Iterable[WireRow], kind: type[Kind]) -> list[Kind]:
    """The rows of one kind, in their order."""
    return [row for row in rows if isinstance(row, kind)]


def _last(rows: Iterable[WireRow], kind: type[Kind]) -> Kind | None:
    return next(reversed(rows_of(rows, kind)), None)


def _wires(hosts: Hosts) -> list[_Wire]:
    """One for each direction of each pair."""
    listening = {host: _last(rows, ListeningRow) for host, rows in hosts.items()}
    return [_Wire(hosts[one], (one, other), listening[other]) for one in hosts for other in hosts if one != other]


def judge(hosts: Hosts, limits: Limits) -> list[WireFinding]:
    """All pairs, both ways. In: all that each host said, as the one that listens and the one that reaches out."""
    wires = _wires(hosts)
    usual = _usual_path(wires)
    deaf = {host: what for host, rows in hosts.items() if (what := _deafness(_last(rows, ListeningRow)))}
    found = [WireFinding("error", code, host, what) for host, (code, what) in deaf.items()]
    for wire in wires:
        if wire.pair[1] not in deaf:
            found += [*_ports(wire), *_unmeasured(wire)]
        found += [*_way(wire), *_mtu(wire, usual)]
    return [*_together(found), *_slow(wires, limits), *_clocks(wires, limits.clock)]


def _deafness(row: ListeningRow | None) -> tuple[Code, str] | None:
    """Why nobody can reach a host."""
    if row is None:
        return "WIRE_MISSING", "it did not listen"
    if not row.ports and not row.interface:
        return "WIRE_NIC", f"none of its interfaces has the address {row.address}"
    return None


def _together(found: Sequence[WireFinding]) -> list[WireFinding]:
    """The same, but where much was not tried one finding says so: where time is over that is most of all pairs."""
    untried = [one for one in found if one.what == UNTRIED]
    if len(untried) <= MOST_UNTRIED:
        return list(found)
    first = f"{untried[0].where} and {len(untried) - 1} others"
    return [
        *(one for one in found if one.what != UNTRIED),
        WireFinding("error", "WIRE_MISSING", first, "were not tried"),
    ]


def _ports(wire: _Wire) -> list[WireFinding]:
    """The ports that do not answer, beside those that do. What is somebody else's there is no firewall's."""
    held = {row.port for row in wire.listening.held} if wire.listening else set()
    ports: dict[Result, list[int]] = {}
    for row in wire.ports:
        result: Result = "open" if row.port in held and row.result in ("other", "refused") else row.result
        ports.setdefault(result, []).append(row.port)
    if not set(ports) - {"open"}:
        return []
    said = []
    for result, (one, more) in SAID.items():
        if numbers := ports.get(result):
            said.append(f"{listed(str(port) for port in numbers)} {one if len(numbers) == 1 else more}")
    if "open" not in ports:
        said.append("no port answers")
    return [wire.finding("WIRE_PORT", "tcp/" + ", ".join(said))]


def listed(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def _unmeasured(wire: _Wire) -> list[WireFinding]:
    """What is not known, and why; without an open port there is nothing to measure."""
    if not wire.ports:
        return [wire.finding("WIRE_MISSING", UNTRIED)]
    if not any(row.result == "open" for row in wire.ports):
        return []
    named = {"the way": wire.route, "the delay": wire.delay, "the path MTU": wire.path}
    found = [wire.finding("WIRE_MISSING", f"{name}: {row.last}") for name, row in named.items() if row and row.last]
    if wire.broken:
        lasts = dict.fromkeys(row.last.removeprefix("ConnectionError: ") or "no number" for row in wire.broken)
        much = "no data" if wire.one is None and wire.all is None else "not all data"
        found.append(wire.finding("WIRE_SLOW", f"{much} came through ({'; '.join(lasts)})"))
    silent = [name for name, row in named.items() if row is None]
    if not wire.broken and (wire.one is None or wire.all is None):
        silent.append("the throughput")
    return found + ([wire.finding("WIRE_MISSING", f"not measured: {listed(silent)}")] if silent else [])


def _way(wire: _Wire) -> list[WireFinding]:
    """Another source address or interface than the one that is wanted."""
    row, found = wire.route, []
    if row and row.source and row.wanted_source and row.source != row.wanted_source:
        found.append(f"the kernel sends from {row.source}, not from {row.wanted_source}")
    if row and row.interface and row.wanted_interface and row.interface != row.wanted_interface:
        found.append(f"the way leads over {row.interface}, not over {row.wanted_interface}")
    return [wire.finding("WIRE_NIC", "; ".join(found))] if found else []


def _usual_path(wires: Sequence[_Wire]) -> int:
    """The path MTU between most hosts; 0 where too few are known."""
    paths = [wire.path.path for wire in wires if wire.path and wire.path.path]
    return statistics.median_low(paths) if len(paths) >= ENOUGH else 0


def _mtu(wire: _Wire, usual: int) -> list[WireFinding]:
    """A path that takes less than the interface sends, or than the other pairs have. TCP may know: a warning then."""
    row = wire.path
    if row is None or not row.path:
        return []
    sends, name = min(row.interface_mtu, LARGEST), (wire.route.interface if wire.route else "") or "the interface"
    if row.path < sends:
        level: Level = "warning" if row.segment and row.segment + TCP_HEADERS <= row.path else "error"
        what = f"packets of up to {row.path} bytes come through whole, {name} sends up to {sends}"
        return [wire.finding("WIRE_MTU", f"{what} (found by {row.how})", level)]
    if row.path < min(usual, LARGEST):
        return [wire.finding("WIRE_MTU", f"packets of up to {row.path} bytes, {usual} between most hosts", "warning")]
    return []


def _slow(wires: Sequence[_Wire], limits: Limits) -> list[WireFinding]:
    """Throughput and delay far off those of the other pairs; of few pairs, off what is asked for."""
    flows = {
        "one stream brings": _Numbers(_numbers(wires, "one")),
        "all streams bring": _Numbers(_numbers(wires, "all")),
    }
    delays = _Numbers(
        {wire.pair: wire.delay.median_ms for wire in wires if wire.delay and wire.delay.median_ms is not None}
    )
    found = []
    for wire in wires:
        low, other_way = [], ""
        for what, numbers in flows.items():
            floor = limits.floor_gbit if what.startswith("all") else 0.0
            low += _low(wire.pair, what, numbers, floor)
            other_way = other_way or _one_way(wire.pair, what, numbers.by_pair)
        low += _late(wire.pair, delays, limits.delay_ms)
        if low:
            found.append(wire.finding("WIRE_SLOW", "; ".join([*low, *([other_way] if other_way else [])])))
        elif other_way:
            found.append(wire.finding("WIRE_ONE_WAY", other_way, "warning"))
    return found


def _numbers(wires: Sequence[_Wire], name: Literal["one", "all"]) -> dict[Pair, float]:
    return {wire.pair: getattr(wire, name) for wire in wires if getattr(wire, name) is not None}


class _Numbers:
    """One number a direction of a pair, and its medians. Each is made once: of 64 hosts there are 4032 numbers."""

    def __init__(self, by_pair: Mapping[Pair, float]) -> None:
        self.by_pair = by_pair
        self._enough = len({frozenset(pair) for pair in by_pair}) >= ENOUGH
        self._known: dict[str, list[float]] = {}

    def medians(self, pair: Pair) -> list[float]:
        """Of all pairs, and of those without either host: one host may be in most pairs. [] for too few pairs."""
        return [median for host in ("", *pair) for median in self._without(host)] if self._enough else []

    def _without(self, host: str) -> list[float]:
        if host not in self._known:
            left = [number for pair, number in self.by_pair.items() if host not in pair]
            self._known[host] = [statistics.median(left)] if left else []
        return self._known[host]


def _low(pair: Pair, what: str, numbers: _Numbers, floor: float) -> list[str]:
    number = numbers.by_pair.get(pair)
    if number is None:
        return []
    usual = max(numbers.medians(pair), default=0.0)
    if number < HALF * usual:
        return [f"{what} {number:.3g} Gbit/s, the median of the others is {usual:.3g}"]
    return [f"{what} {number:.3g} Gbit/s, {floor:.3g} at least is asked for"] if number < floor else []


def _late(pair: Pair, delays: _Numbers, most: float) -> list[str]:
    number = delays.by_pair.get(pair)
    if number is None:
        return []
    usual = min(delays.medians(pair), default=number)
    if number * HALF > usual and number - usual > NOISE_MS:
        return [f"a round trip takes {number:.3g} ms, the median of the others is {usual:.3g}"]
    return [f"a round trip takes {number:.3g} ms, {most:.3g} at most is asked for"] if number > most else []


def _one_way(pair: Pair, what: str, numbers: Mapping[Pair, float]) -> str:
    here, back = numbers.get(pair), numbers.get((pair[1], pair[0]))
    if here is None or back is None or here >= HALF * back:
        return ""
    return f"{what} {here:.3g} Gbit/s, the other way {back:.3g}"


def _clocks(wires: Sequence[_Wire], most: float) -> list[WireFinding]:
    """Clocks that are off: of a host against most of the others, or of a pair."""
    ahead: dict[Pair, float] = {}  # (host, other): by how much the host's clock is ahead
    for wire in wires:
        if wire.delay and wire.delay.offset is not None:
            here, there = wire.pair
            ahead.setdefault((there, here), _beyond(wire.delay.offset, wire.delay.uncertain or 0.0))
            ahead.setdefault((here, there), _beyond(-wire.delay.offset, wire.delay.uncertain or 0.0))
    found, named = [], set()
    hosts = list(dict.fromkeys(wire.pair[0] for wire in wires))
    for host in hosts if len(hosts) > 2 else []:
        others = [number for (one, _), number in ahead.items() if one == host]
        if others and 2 * sum(abs(number) > most for number in others) > len(others):
            named.add(host)
            found.append(WireFinding("error", "WIRE_CLOCK", host, _clock(statistics.median(others), "most others'")))
    for (one, other), number in ahead.items():
        if number > most and not named & {one, other}:
            found.append(WireFinding("error", "WIRE_CLOCK", one, _clock(number, f"that of {other}")))
    return found


def _beyond(offset: float, uncertain: float) -> float:
    """What of an offset is sure."""
    sure = max(0.0, abs(offset) - uncertain)
    return sure if offset > 0 else -sure


def _clock(number: float, whose: str) -> str:
    return f"its clock is {abs(number):.3g} s {'ahead of' if number > 0 else 'behind'} {whose}"


def table(hosts: Hosts) -> list[WireLine]:
    """A line each direction of each pair."""
    return [_line(wire) for wire in _wires(hosts)]


def _line(wire: _Wire) -> WireLine:
    answering = sum(row.result in ("open", "other") for row in wire.ports)
    return WireLine(
        source=wire.pair[0],
        target=wire.pair[1],
        ports=f"{answering} of {len(wire.ports)}",
        interface=wire.route.interface if wire.route else "",
        delay_ms=wire.delay.median_ms if wire.delay else None,
        one_gbit=wire.one,
        all_gbit=wire.all,
        mtu=wire.path.path or None if wire.path else None,
        offset=wire.delay.offset if wire.delay else None,
    )
