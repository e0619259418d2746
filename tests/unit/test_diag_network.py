"""``diag network`` on the controller: who is asked what and when, what is lost with a host, and what is then said."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.assurance.inside import Place
from r1deploy.assurance.netcollectives import NO_TORCH
from r1deploy.assurance.netwires import HIGHEST, LOWEST, high_ports, rounds
from r1deploy.assurance.network import NetworkResult, measure_network
from r1deploy.assurance.wirerows import ListeningRow, PortRow, WiresDone
from r1deploy.cluster.host import Host
from r1deploy.errors import UnreachableError
from r1deploy.settings.model import Settings
from r1deploy.together import together
from tests.fakehosts import LOOPBACK, LocalRemote, Order, Script, ToldRemote, observed
from tests.unit.test_diag_kernels import DATA
from tests.unit.test_render import settings_of

DONE = 'r1:{"seconds":1.0,"kind":"done"}'
DOWN = UnreachableError("SSH_TIMEOUT", "node2: the link is down", host="node2")


@pytest.mark.parametrize("hosts", [2, 3, 4, 5, 8, 9])
def test_every_pair_is_measured_once_each_way_and_no_host_in_two_at_once(hosts: int) -> None:
    names = [f"node{number}" for number in range(1, hosts + 1)]
    plan = rounds(names)
    assert sorted(itertools.chain(*plan)) == sorted(itertools.permutations(names, 2))
    for pairs in plan:
        busy = list(itertools.chain(*pairs))
        assert len(busy) == len(set(busy)), pairs
    assert len(plan) == 2 * (hosts - 1 + hosts % 2), "as few rounds as can be"


def test_one_host_has_no_rounds() -> None:
    assert rounds(["node1"]) == rounds([]) == []


def test_high_ports_are_the_same_for_one_run_and_of_every_part() -> None:
    first = high_ports("a", [])
    assert first == high_ports("a", []) != high_ports("b", [])
    assert first == sorted(set(first)) and first[0] >= LOWEST and first[-1] <= HIGHEST
    assert max(later - earlier for earlier, later in itertools.pairwise(first)) < 2 * (HIGHEST - LOWEST) / 5
    assert not set(high_ports("a", first)) & set(first)


def test_an_error_at_one_place_loses_nothing_of_the_others_and_a_mistake_is_raised() -> None:
    def down() -> str:
        raise DOWN

    barrier = threading.Barrier(2, timeout=10)
    both: dict[str, Callable[[], object]] = {"node2": down, "node1": barrier.wait, "node3": barrier.wait}
    found = together(both)
    assert list(found) == list(both) and found["node2"] is DOWN and {found["node1"], found["node3"]} == {0, 1}
    with pytest.raises(ZeroDivisionError):
        together({"node1": lambda: 1 // 0, "node2": threading.Event().wait})


def settings(**diag: float) -> Settings:
    return settings_of(diag=diag, chip={"torch_device": "cpu"})


def measured(remotes: Sequence[Any], wanted: Settings, **about: Any) -> tuple[NetworkResult, list[tuple[str, str]]]:
    """What is found on these hosts, and what was told meanwhile."""
    hosts = [Host(one.name, f"{LOOPBACK}.{number}", 2, is_head=number == 2) for number, one in enumerate(remotes, 2)]
    run: Any = SimpleNamespace(settings=wanted, remote=lambda _, name: next(one for one in remotes if one.name == name))
    seen = {one.name: observed(**about.get("observed", {})) for one in remotes}
    view: Any = SimpleNamespace(desired=SimpleNamespace(hosts=hosts), probed=SimpleNamespace(observed=seen))
    places = {one.name: Place("engine", about.get("python", "python3"), "") for one in remotes}
    told: list[tuple[str, str]] = []

    def tell(host: str, words: str) -> None:
        told.append((host, words))
        about.get("tell", lambda *_: None)(host, words)

    return measure_network(run, view, places, tell), told


def lines_of(name: str) -> dict[str, list[str]]:
    """What two hosts said once, by host."""
    lines: dict[str, list[str]] = {}
    for line in (DATA / f"wires_{name}.txt").read_text(encoding="utf-8").splitlines():
        host, _, said = line.partition(" ")
        lines.setdefault(host, []).append(said)
    return lines


def ranks_of(name: str, rank: int) -> list[str]:
    """What the host of one rank said."""
    lines = (DATA / f"collectives_{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if f'"rank":{rank},' in line] + [DONE]


def script(host: str, wires: str, ranks: Mapping[str, Sequence[str]]) -> Script:
    """A host that says what it said once. Of the ports it listens on all that it is asked for."""
    said = lines_of(wires)[host]

    def say(module: str, order: Order) -> Sequence[str | UnreachableError]:
        if order.get("op") == "listen":
            row = json.loads(said[0].removeprefix("r1:"))
            return ["a word of the login", "r1:" + json.dumps({**row, "ports": order["ports"]}), DONE]
        if order.get("op") == "reach":
            return [line for line in said[1:] if f'"to":"{order["peers"][0]["name"]}"' in line] + [DONE]
        return ranks[order["backend"]]

    return say


def two(wires: str, ranks: str = "gloo") -> list[ToldRemote]:
    return [
        ToldRemote(f"node{number + 1}", script(f"node{number + 1}", wires, {"gloo": ranks_of(ranks, number)}))
        for number in range(2)
    ]


def test_healthy_hosts_are_asked_with_one_token_and_nothing_is_found() -> None:
    remotes = two("healthy")
    found, told = measured(remotes, settings(floor_gbit=1.0))
    assert found.findings == [] and found.notes == []
    assert [(line.source, line.target) for line in found.table] == [("node1", "node2"), ("node2", "node1")]
    orders = [order for one in remotes for order in one.orders if "op" in order]
    assert [order["op"] for order in orders] == ["listen", "reach"] * 2
    assert len({order["token"] for order in orders}) == 1 and len(orders[0]["token"]) == 32
    listen, reach = remotes[0].orders[:2]
    assert (listen["address"], reach["source"], reach["interface"]) == (f"{LOOPBACK}.2", f"{LOOPBACK}.2", "eth1")
    assert listen["ports"][0] == 9010 and 6379 in listen["ports"] and len(listen["ports"]) == 7
    (peer,) = reach["peers"]
    assert (peer["name"], peer["address"], peer["ports"]) == ("node2", f"{LOOPBACK}.3", listen["ports"])
    (run,) = found.collectives
    assert (run.library, run.findings, len(run.lines)) == ("gloo", [], 6) and run.lines[0].ranks == 2
    assert {("node1", "listens"), ("node1", "reaches node2"), ("node2", "gloo: all_reduce of 1.0 MiB")} <= set(told)


def test_the_interface_is_the_engines_own() -> None:
    remotes, wanted = two("healthy"), settings()
    measured(remotes, wanted.model_copy(update={"env": {**wanted.env, "NCCL_SOCKET_IFNAME": "eth2"}}))
    assert [order["interface"] for one in remotes for order in one.orders if order.get("op") == "reach"] == ["eth2"] * 2


@pytest.mark.parametrize(
    ("wires", "said"),
    [
        ("firewall", "node1 → node2: tcp/9010 times out, 6379 is refused, 49152 answers"),
        ("slow", "node1 → node2: all streams bring 0.0999 Gbit/s, 1 at least is asked for; "),
    ],
)
def test_a_fault_is_named_by_pair(wires: str, said: str) -> None:
    found, _ = measured(two(wires), settings(floor_gbit=1.0))
    assert [one.sentence()[: len(said)] for one in found.findings] == [said]


def test_a_host_that_cannot_be_reached_is_named_and_the_others_have_their_rows() -> None:
    first, _ = two("healthy")

    lost = ToldRemote("node2", lambda module, order: [DONE])
    lost.module = lost.lost  # type: ignore[method-assign]
    found, told = measured([first, lost], settings())
    assert {one.code for one in found.findings} == {"WIRE_MISSING"}
    assert found.findings[0].sentence() == "node2: it did not listen" and found.notes == ["node2: the link is down"]
    assert ("node1", "reaches node2") not in told, "who does not listen is not tried"
    assert any(isinstance(row, ListeningRow) for row in found.rows["node1"]) and found.rows["node2"] == []


def test_ranks_are_of_the_hosts_that_are_there() -> None:
    remotes = [*two("healthy"), ToldRemote("node3", lambda module, order: [DONE])]
    remotes[2].module = remotes[2].lost  # type: ignore[method-assign]
    found, _ = measured(remotes, settings())
    (run,) = found.collectives
    assert run.findings == [] and run.lines[0].ranks == 2
    assert found.notes == ["node3: the link is down", "the collectives are without node3"]


def test_what_was_said_before_the_link_went_down_is_kept() -> None:
    first, second = two("healthy")
    whole = second.script

    def cut(module: str, order: Order) -> Sequence[str | UnreachableError]:
        said = whole(module, order)
        return [*said[:3], DOWN] if order.get("op") == "reach" else said

    second.script = cut
    found, _ = measured([first, second], settings())
    assert found.notes[0] == "node2: the link is down"
    assert len([row for row in found.rows["node2"] if isinstance(row, PortRow)]) == 3
    assert [one.sentence() for one in found.findings] == [
        "node2 → node1: not measured: the way, the delay, the path MTU and the throughput"
    ]


def test_a_listener_that_ends_early_is_named_and_its_ports_are_no_firewalls() -> None:
    first, second = two("firewall")
    whole = second.script
    second.script = lambda module, order: [
        "Killed" if order.get("op") == "listen" and line == DONE else line for line in whole(module, order)
    ]
    found, _ = measured([first, second], settings())
    assert [one.sentence() for one in found.findings if one.level == "error"] == ["node2: it did not listen"]
    assert found.notes == ["node2: it did not listen to the end: it ended with code 0"]


def test_time_that_is_over_is_said_and_not_only_seen() -> None:
    found, told = measured(two("healthy"), settings(network_seconds=1))
    assert found.notes == [
        "diag.network_seconds (1) were over after 0 of 2 rounds: a round takes some 4 s, up to 14 where a fault is"
    ]
    assert [one.sentence() for one in found.findings] == [
        "node1 → node2: it was not tried", "node2 → node1: it was not tried",
    ]  # fmt: skip
    assert not [words for _, words in told if words.startswith("reaches")]


def test_one_host_has_nothing_to_measure() -> None:
    found, _ = measured(two("healthy")[:1], settings())
    assert found.notes == ["one host: no pairs to measure"]
    assert (found.findings, found.table, found.collectives) == ([], [], [])
    lost = ToldRemote("node1", lambda module, order: [DONE])
    lost.module = lost.lost  # type: ignore[method-assign]
    found, _ = measured([lost], settings())
    assert [one.sentence() for one in found.findings] == ["node1: it did not listen"]


def test_an_image_without_torch_is_a_note() -> None:
    row = {"kind": "rank", "name": "x", "backend": "gloo", "ended": "failed", "doing": "import torch", "last": NO_TORCH}
    remotes = [
        ToldRemote(name, script(name, "healthy", {"gloo": ["r1:" + json.dumps({**row, "rank": number}), DONE]}))
        for number, name in enumerate(("node1", "node2"))
    ]
    found, _ = measured(remotes, settings())
    assert (found.collectives, found.notes) == ([], ["the image has no torch: no collectives"])


def test_all_chips_meet_over_the_vendors_library_under_their_names() -> None:
    none = [DONE]
    remotes = [
        ToldRemote(name, script(name, "healthy", {"gloo": ranks_of("gloo", number), "nccl": none}))
        for number, name in enumerate(("node1", "node2"))
    ]
    asked: list[Order] = []
    for one in remotes:
        one.script = remembering(one.script, asked)
    found, _ = measured(remotes, settings_of(chip={"torch_device": "cuda"}))
    gloo, nccl = ([order for order in asked if order.get("backend") == name] for name in ("gloo", "nccl"))
    assert [order["ranks"] for order in gloo] == [[0], [1]] and gloo[0]["names"] == ["node1", "node2"]
    assert sorted(order["ranks"] for order in nccl) == [[0, 1], [2, 3]] and nccl[0]["device"] == "cuda"
    assert nccl[0]["names"] == ["node1 chip 0", "node1 chip 1", "node2 chip 0", "node2 chip 1"]
    assert nccl[0]["sizes"][-1] == 1 << 28 and gloo[0]["address"] == f"{LOOPBACK}.2"
    assert gloo[0]["port"] != nccl[0]["port"] and {gloo[0]["port"], nccl[0]["port"]} <= set(asked[0]["ports"][2:])
    assert gloo[0]["wait"] == 20.0 and gloo[0]["deadline"] + 2 * gloo[0]["wait"] == 120
    assert [one.sentence() for one in found.collectives[1].findings] == [
        "node1 chip 0, node1 chip 1, node2 chip 0 and node2 chip 1: did not come to the other ranks"
    ]


def remembering(whole: Script, asked: list[Order]) -> Script:
    def say(module: str, order: Order) -> Sequence[str | UnreachableError]:
        asked.append(order)
        return whole(module, order)

    return say


def test_hosts_that_do_not_meet_are_named_and_their_chips_are_not_tried() -> None:
    remotes = two("healthy", "absent")
    row = json.loads(ranks_of("absent", 0)[0].removeprefix("r1:"))
    said = [json.dumps({**row, "ranks": [1], "names": ["node2"]}), ranks_of("absent", 0)[1].removeprefix("r1:")]
    remotes[0].script = script("node1", "healthy", {"gloo": [*(f"r1:{one}" for one in said), DONE]})
    remotes[1].script = script("node2", "healthy", {"gloo": ["docker: no such container"]})
    found, _ = measured(remotes, settings_of(chip={"torch_device": "cuda"}))
    (run,) = found.collectives
    assert (run.library, run.findings[0].code, run.findings[0].where) == ("gloo", "RANKS_MISSING", "node2")


def test_the_ranks_meet_at_a_port_that_all_hosts_reached() -> None:
    remotes = two("healthy")
    first = remotes[1].script

    def blocked(module: str, order: Order) -> Sequence[str | UnreachableError]:
        """node2 reaches one high port of node1 only; the last of them."""
        if order.get("op") != "reach":
            return first(module, order)
        *shut, open_ = order["peers"][0]["ports"]
        row = {"kind": "port", "to": "node1", "ms": None, "last": ""}
        results = [*((port, "timeout") for port in shut), (open_, "open")]
        return ["r1:" + json.dumps({**row, "port": port, "result": result}) for port, result in results] + [DONE]

    asked: list[Order] = []
    remotes[1].script = remembering(blocked, asked)
    measured(remotes, settings())
    assert [order["port"] for order in asked if "backend" in order] == [asked[0]["ports"][-1]]


QUICK = {"pings": 20, "flow_seconds": 0.2, "flow_bytes": 8 << 20}


def quick(order: Order) -> Order:
    return {**order, **QUICK} if order.get("op") == "reach" else order


def certain(found: NetworkResult) -> list[str]:
    """The findings that hang on no speed: this machine may be busy."""
    return [one.sentence() for one in found.findings if one.code in ("WIRE_MISSING", "WIRE_PORT", "WIRE_NIC")]


def container(folder: Path) -> tuple[str, str]:
    """A ``docker exec`` that runs here what it is given, and a Python without packages; returns (PATH, that Python)."""
    programs = {"docker": 'export "$6"\nshift 7\nexec "$@"\n', "python": f'exec {sys.executable} -S "$@"\n'}
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/local/bin:/usr/bin:/bin", str(folder / "python")


def test_real_ends_on_two_addresses_of_this_machine(tmp_path: Path) -> None:
    """The kernel sends from 127.0.0.1 whatever loopback address is reached: that is seen, and nothing else is wrong."""
    path, python = container(tmp_path)
    remotes = [LocalRemote(name, quick, PATH=path) for name in ("node1", "node2")]
    found, _ = measured(remotes, settings(), observed={"nic": "lo"}, python=python)
    assert certain(found) == [
        f"node1 → node2: the kernel sends from 127.0.0.1, not from {LOOPBACK}.2",
        f"node2 → node1: the kernel sends from 127.0.0.1, not from {LOOPBACK}.3",
    ]
    assert all(line.ports == "7 of 7" and (line.all_gbit or 0) > 0 and line.mtu for line in found.table)
    assert [len([row for row in rows if isinstance(row, WiresDone)]) for rows in found.rows.values()] == [2, 2]
    assert found.notes == ["the image has no torch: no collectives"], "said by the ranks, each in its container"


def test_a_real_listener_that_is_killed_loses_its_own_rows_only(tmp_path: Path) -> None:
    path, python = container(tmp_path)
    remotes = [LocalRemote(f"node{number}", quick, PATH=path) for number in (1, 2, 3)]

    def kill(host: str, words: str) -> None:
        if words == "reaches node3":
            remotes[2].listener().kill()

    found, told = measured(remotes, settings(), observed={"nic": "lo"}, python=python, tell=kill)
    assert len([words for _, words in told if words == "reaches node3"]) == 1, "once it is gone nobody tries it again"
    assert [one for one in certain(found) if "the kernel" not in one] == ["node3: it did not listen"]
    assert found.notes[0].startswith("node3: it did not listen to the end: it ended with code -9")
    by_pair = {(line.source, line.target): line for line in found.table}
    for pair in (("node1", "node2"), ("node2", "node1"), ("node3", "node1"), ("node3", "node2")):
        assert by_pair[pair].ports == "7 of 7" and by_pair[pair].all_gbit, pair
