"""The judge of wires: on the rows of three network namespaces, each with one fault, and on made ones."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from r1deploy.assurance import wirejudge
from r1deploy.assurance.wirejudge import Limits, WireLine, judge, table
from r1deploy.assurance.wirerows import WireRow, wire_row_of, wire_rows_in
from tests.unit.test_diag_kernels import DATA

LIMITS = Limits(floor_gbit=1.0)
Hosts = dict[str, list[WireRow]]


def wires(name: str) -> Hosts:
    """What two hosts said, with a router between them; every row is understood. All MTUs are 9000 in a healthy one."""
    lines: dict[str, list[str]] = {}
    for line in (DATA / f"wires_{name}.txt").read_text(encoding="utf-8").splitlines():
        host, _, said = line.partition(" ")
        lines.setdefault(host, []).append(said)
    hosts = {host: wire_rows_in(said) for host, said in lines.items()}
    assert [refused for _, refused in hosts.values()] == [0, 0]
    return {host: rows for host, (rows, _) in hosts.items()}


def said(hosts: Hosts, limits: Limits = LIMITS) -> list[str]:
    return [f"{one.level} {one.code} {one.sentence()}" for one in judge(hosts, limits)]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("healthy", []),
        ("firewall", ["error WIRE_PORT node1 → node2: tcp/9010 times out, 6379 is refused, 49152 answers"]),
        (
            "wrong_nic",
            [
                "error WIRE_NIC node1 → node2: the kernel sends from 10.9.3.1, not from 10.9.1.1; "
                "the way leads over eth2, not over eth1"
            ],
        ),
        (
            "small_nic",
            [
                "warning WIRE_MTU node1 → node2: packets of up to 1500 bytes come through whole, "
                "eth1 sends up to 9000 (found by probes)"
            ],
        ),
        (
            "black_hole",
            [
                "error WIRE_SLOW node1 → node2: no data came through (no byte was acknowledged)",
                "error WIRE_MTU node1 → node2: packets of up to 1400 bytes come through whole, "
                "eth1 sends up to 9000 (found by probes)",
                "error WIRE_MTU node2 → node1: packets of up to 1404 bytes come through whole, "
                "eth1 sends up to 9000 (found by probes)",
            ],
        ),
        (
            "slow",
            [
                "error WIRE_SLOW node1 → node2: all streams bring 0.0999 Gbit/s, 1 at least is asked for; "
                "one stream brings 0.0997 Gbit/s, the other way 8.9"
            ],
        ),
    ],
)
def test_a_fault_of_real_wires_is_named_by_pair(name: str, wanted: list[str]) -> None:
    assert said(wires(name)) == wanted


def test_where_routers_say_what_they_take_it_is_a_warning() -> None:
    found = judge(wires("router_mtu"), LIMITS)
    assert [(one.level, one.code, one.where) for one in found] == [
        ("warning", "WIRE_MTU", "node1 → node2"),
        ("warning", "WIRE_MTU", "node2 → node1"),
    ]


def test_the_table() -> None:
    first, second = table(wires("firewall"))
    assert (first.source, first.target, first.ports, first.interface) == ("node1", "node2", "1 of 3", "eth1")
    assert (second.ports, second.mtu) == ("3 of 3", 9000) and (second.all_gbit or 0) > (second.delay_ms or 0) > 0
    assert table({"node1": [], "node2": []})[0] == WireLine(
        "node1", "node2", "0 of 0", "", None, None, None, None, None
    )


class Site:
    """Hosts whose wires are right, until something is changed. ``change``: of a pair, (kind, what)."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.listening: dict[str, dict[str, Any]] = {name: {} for name in names}
        self.changes: dict[tuple[str, str], dict[str, dict[str, Any] | None]] = {}

    def change(self, here: str, there: str, **kinds: dict[str, Any] | None) -> Site:
        self.changes.setdefault((here, there), {}).update(kinds)
        return self

    def hosts(self) -> Hosts:
        return {name: [*self._heard(name), *self._reached(name)] for name in self.names}

    def _heard(self, name: str) -> list[WireRow]:
        row = {
            "kind": "listening", "address": "10.0.0.1", "interface": "eth1", "mtu": 1500, "ports": [6379, 9010],
            "held": [], "probe_port": 9010, **self.listening[name],
        }  # fmt: skip
        return [self._row(row)]

    def _row(self, row: dict[str, Any]) -> WireRow:
        taken = wire_row_of(row)
        assert taken is not None, row
        return taken

    def _reached(self, name: str) -> list[WireRow]:
        usual: dict[str, dict[str, Any]] = {
            "a": {"kind": "port", "port": 6379, "result": "open", "ms": 0.1},
            "b": {"kind": "port", "port": 9010, "result": "open", "ms": 0.1},
            "route": {"source": "10.0.0.1", "interface": "eth1", "mtu": 1500, "wanted_source": "10.0.0.1",
                      "wanted_interface": "eth1"},
            "delay": {"median_ms": 0.1, "least_ms": 0.05, "samples": 200, "offset": 0.01, "uncertain": 0.0001},
            "one": {"kind": "flow", "streams": 1, "bytes": 9, "seconds": 0.7, "gbit": 9.4},
            "all": {"kind": "flow", "streams": 8, "bytes": 9, "seconds": 0.7, "gbit": 9.8},
            "path": {"how": "probes", "path": 1500, "interface_mtu": 1500, "tcp_mtu": 1500, "segment": 1448},
        }  # fmt: skip
        rows = []
        for other in self.names:
            changes = self.changes.get((name, other), {})
            for kind, row in usual.items() if other != name else ():
                changed = changes.get(kind, {})
                if changed is not None:
                    rows.append(self._row({"kind": kind, "to": other, "last": "", **row, **changed}))
        return rows


def test_made_wires_are_right() -> None:
    assert said(Site("node1", "node2").hosts()) == said(Site("node1", "node2", "node3").hosts()) == []


def test_ports_of_one_pair() -> None:
    site = Site("node1", "node2")
    site.change("node1", "node2", a={"result": "timeout", "ms": None}, b={"result": "timeout", "ms": None})
    site.change("node2", "node1", a={"result": "other"})
    assert said(site.hosts()) == [
        "error WIRE_PORT node1 → node2: tcp/6379 and 9010 time out, no port answers",
        "error WIRE_PORT node2 → node1: tcp/6379 is answered by something else, 9010 answers",
    ]


def test_a_port_that_something_else_holds_is_no_firewall() -> None:
    for result in ("other", "refused"):
        site = Site("node1", "node2").change("node1", "node2", a={"result": result})
        site.listening["node2"] = {"ports": [9010], "held": [{"port": 6379, "last": "Address already in use"}]}
        assert said(site.hosts()) == []
    site.change("node1", "node2", a={"result": "timeout"})
    assert said(site.hosts()) == ["error WIRE_PORT node1 → node2: tcp/6379 times out, 9010 answers"]


def test_a_host_that_cannot_be_reached_for_a_reason_of_its_own() -> None:
    site = Site("node1", "node2").change("node1", "node2", a={"result": "refused"}, b={"result": "refused"})
    site.listening["node2"] = {"address": "10.0.0.9", "interface": "", "ports": []}
    assert said(site.hosts()) == ["error WIRE_NIC node2: none of its interfaces has the address 10.0.0.9"]
    hosts = {"node1": site.hosts()["node1"], "node2": list[WireRow]()}
    assert said(hosts) == [
        "error WIRE_MISSING node2: it did not listen",
        "error WIRE_MISSING node2 → node1: it was not tried",
    ]


def test_what_was_not_measured() -> None:
    site = Site("node1", "node2")
    site.change("node1", "node2", delay={"last": "TimeoutError: timed out", "median_ms": None}, path=None, all=None)
    assert said(site.hosts()) == [
        "error WIRE_MISSING node1 → node2: the delay: TimeoutError: timed out",
        "error WIRE_MISSING node1 → node2: not measured: the path MTU and the throughput",
    ]


def test_streams_that_broke() -> None:
    broken = {"last": "ConnectionError: 3 of 8 streams broke", "streams": 0, "gbit": None}
    assert said(Site("node1", "node2").change("node1", "node2", all=broken).hosts()) == [
        "error WIRE_SLOW node1 → node2: not all data came through (3 of 8 streams broke)"
    ]


def test_an_mtu_that_other_pairs_do_not_have() -> None:
    site = Site("node1", "node2", "node3").change("node1", "node3", path={"path": 1400, "interface_mtu": 1400})
    assert said(site.hosts()) == [
        "warning WIRE_MTU node1 → node3: packets of up to 1400 bytes, 1500 between most hosts"
    ]
    loopback = {"path": 65535, "interface_mtu": 65536, "how": "tcp"}
    assert said(Site("node1", "node2").change("node1", "node2", path=loopback).hosts()) == []


def test_a_slow_link_among_many() -> None:
    site = Site("node1", "node2", "node3").change("node1", "node3", one={"gbit": 0.9}, all={"gbit": 4.8})
    assert said(site.hosts(), Limits(floor_gbit=0)) == [
        "error WIRE_SLOW node1 → node3: one stream brings 0.9 Gbit/s, the median of the others is 9.4; "
        "all streams bring 4.8 Gbit/s, the median of the others is 9.8; "
        "one stream brings 0.9 Gbit/s, the other way 9.4"
    ]


def test_a_slow_host_is_in_most_pairs_and_is_named_all_the_same() -> None:
    site = Site("node1", "node2", "node3")
    for one, other in (("node1", "node3"), ("node3", "node1"), ("node2", "node3"), ("node3", "node2")):
        site.change(one, other, all={"gbit": 0.9})
    assert [one.where for one in judge(site.hosts(), Limits(floor_gbit=0))] == [
        "node1 → node3", "node2 → node3", "node3 → node1", "node3 → node2",
    ]  # fmt: skip


def test_half_is_not_under_half_and_all_slow_ones_meet_the_floor() -> None:
    site = Site("node1", "node2", "node3").change("node1", "node3", one={"gbit": 4.7}, all={"gbit": 4.9})
    assert said(site.hosts()) == []
    assert len(judge(site.hosts(), Limits(floor_gbit=9.9))) == 6


def test_one_way() -> None:
    site = Site("node1", "node2").change("node2", "node1", one={"gbit": 3.0})
    assert said(site.hosts()) == ["warning WIRE_ONE_WAY node2 → node1: one stream brings 3 Gbit/s, the other way 9.4"]


def test_delays() -> None:
    site = Site("node1", "node2").change("node2", "node1", delay={"median_ms": 5.1})
    assert said(site.hosts()) == ["error WIRE_SLOW node2 → node1: a round trip takes 5.1 ms, 5 at most is asked for"]
    site = Site("node1", "node2", "node3").change("node2", "node1", delay={"median_ms": 0.31})
    assert said(site.hosts()) == [
        "error WIRE_SLOW node2 → node1: a round trip takes 0.31 ms, the median of the others is 0.1"
    ]
    assert said(site.change("node2", "node1", delay={"median_ms": 0.29}).hosts()) == [], "that is noise"


def clocks(*names: str, **ahead: float) -> Hosts:
    site = Site(*names)
    for one in names:
        for other in names:
            site.change(one, other, delay={"offset": ahead.get(other, 0.0) - ahead.get(one, 0.0), "uncertain": 0.01})
    return site.hosts()


def test_clocks() -> None:
    assert said(clocks("node1", "node2", node2=1.005)) == [], "as far as is sure"
    assert said(clocks("node1", "node2", node2=-3.2)) == [
        "error WIRE_CLOCK node1: its clock is 3.19 s ahead of that of node2"
    ]
    assert said(clocks("node1", "node2", "node3", node2=-60.0)) == [
        "error WIRE_CLOCK node2: its clock is 60 s behind most others'"
    ]
    assert said(clocks("node1", "node2", "node3", "node4", node1=0.6, node2=-0.6)) == [
        "error WIRE_CLOCK node1: its clock is 1.19 s ahead of that of node2"
    ]


def flows(hosts: int) -> Hosts:
    """So many hosts with the same numbers each way."""
    names = [f"node{number}" for number in range(hosts)]
    flow = {"kind": "flow", "last": "", "bytes": 1, "seconds": 1.0, "gbit": 9.0}
    delay = {"kind": "delay", "last": "", "median_ms": 0.1}
    made = {
        one: [wire_row_of({**row, "to": to}) for to in names if to != one for row in (
            {**flow, "streams": 1}, {**flow, "streams": 8}, delay,
        )]
        for one in names
    }  # fmt: skip
    return {one: [row for row in rows if row] for one, rows in made.items()}


def test_each_median_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 hosts there are 4032 directions: a median of all of them for each would take minutes."""
    made: list[int] = []
    whole = statistics.median

    def median(numbers: list[float]) -> float:
        made.append(len(numbers))
        return whole(numbers)

    monkeypatch.setattr(wirejudge.statistics, "median", median)
    judge(flows(12), LIMITS)
    assert 3 <= len(made) <= 3 * (12 + 1)


def test_many_directions_that_were_not_tried_are_one_finding() -> None:
    hosts = flows(12)
    listening = wires("healthy")["node1"][0]
    found = [one for one in said({host: [listening, *rows] for host, rows in hosts.items()}) if "tried" in one]
    assert found == ["error WIRE_MISSING node0 → node1 and 131 others: were not tried"]
    few = said({host: [listening, *rows] for host, rows in flows(3).items()})
    assert sum("it was not tried" in one for one in few) == 6
