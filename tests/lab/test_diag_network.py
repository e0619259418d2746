"""``diag network`` between two hosts, with nothing of the image: each trouble is caused there, and named by pair."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from r1deploy.lab.places import network_prefix
from tests.lab.conftest import HOSTS, Cluster
from tests.lab.proving import diag, on_host
from tests.lab.running import assert_nothing_left

pytestmark = pytest.mark.lab
ONE, OTHER = (f"{network_prefix()}.{end}" for end in (11, 12))
THERE, BACK = "node1 → node2", "node2 → node1"
# What the issue asks for: each of these is named within a minute.
SECONDS = 60


class Trouble(NamedTuple):
    """What is done to the second host and undone, and what has to be said of it."""

    cause: str
    undo: str
    code: str
    where: str
    what: str
    level: str = "error"
    sets: tuple[str, ...] = ()


def from_one(rule: str) -> tuple[str, str]:
    """A rule of the second host for what the first one sends, and its undoing: the controller gets through."""
    return f"iptables -I INPUT -s {ONE} {rule}", f"iptables -D INPUT -s {ONE} {rule}"


SECOND = f"{network_prefix()}.199"
PRELOAD = "dpkg -L libfaketime | grep '/libfaketime.so.1$' > /etc/ld.so.preload; echo +300s > /etc/faketimerc"
TROUBLES = {
    "a dropped port": Trouble(*from_one("-p tcp --dport 9010 -j DROP"), "WIRE_PORT", THERE, "tcp/9010 times out"),
    "a refused port": Trouble(
        *from_one("-p tcp --dport 6379 -j REJECT --reject-with tcp-reset"), "WIRE_PORT", THERE, "tcp/6379 is refused",
    ),
    "nobody gets in": Trouble(*from_one("-p tcp --syn -j DROP"), "WIRE_PORT", THERE, "no port answers"),
    "another source address": Trouble(
        f"ip addr add {SECOND}/24 dev eth0; ip route add {ONE} dev eth0 src {SECOND}",
        f"ip route del {ONE} dev eth0 src {SECOND}; ip addr del {SECOND}/24 dev eth0",
        "WIRE_NIC", BACK, f"the kernel sends from {SECOND}, not from {OTHER}",
    ),
    "another interface than the variables name": Trouble(
        "true", "true", "WIRE_NIC", THERE, "the way leads over eth0, not over docker0",
        sets=("env.NCCL_SOCKET_IFNAME=docker0", "env.GLOO_SOCKET_IFNAME=docker0"),
    ),
    "a small MTU on one side": Trouble(
        "ip link set eth0 mtu 1300", "ip link set eth0 mtu 1500", "WIRE_MTU", THERE,
        "bytes come through whole, eth0 sends up to 1500", level="warning",  # a veth lets four more than 1300 in
    ),
    "a black hole for large packets": Trouble(
        *from_one("-m length --length 1301:65535 -j DROP"), "WIRE_MTU", THERE,
        "packets of up to 1300 bytes come through whole, eth0 sends up to 1500",
    ),
    "one slow direction": Trouble(
        "tc qdisc add dev eth0 root tbf rate 50mbit burst 64k latency 400ms", "tc qdisc del dev eth0 root",
        "WIRE_SLOW", BACK, "1 at least is asked for", sets=("diag.floor_gbit=1",),
    ),
    "a clock": Trouble(
        PRELOAD, "rm -f /etc/ld.so.preload /etc/faketimerc", "WIRE_CLOCK", "node2", "its clock is 300 s ahead of",
    ),
}  # fmt: skip


def network(cluster: Cluster, *argv: str, code: int = 0) -> dict[str, Any]:
    found = diag(cluster, "network", *argv, code=code, timeout=SECONDS)
    return dict(found["parts"]["network"])


def test_healthy_wires(ready: Cluster) -> None:
    part = network(ready)
    assert part["ok"] and [row for row in part["findings"] if row["level"] == "error"] == []
    rows = part["table"]
    assert [(row["source"], row["target"]) for row in rows] == [HOSTS, HOSTS[::-1]]
    for row in rows:
        answered, tried = row["ports"].split(" of ")
        assert answered == tried and int(tried) >= 3, "the engine's port, Ray's, and some high ones"
        assert (row["interface"], row["mtu"]) == ("eth0", 1500)
        assert row["delay_ms"] > 0 and row["one_gbit"] > 0 and row["all_gbit"] > 0
        assert abs(row["offset"]) < 0.5, "the hosts have one clock"
    assert part["collectives"] == [] and part["notes"] == ["the image has no torch: no collectives"]
    assert_nothing_left(ready)


@pytest.mark.parametrize("name", TROUBLES)
def test_a_trouble_is_named_by_pair(ready: Cluster, name: str) -> None:
    row = TROUBLES[name]
    sets = [word for pair in row.sets for word in ("--set", pair)]
    with on_host(ready, "node2", row.cause, row.undo):
        part = network(ready, *sets, code=6 if row.level == "error" else 0)
    found = [(one["level"], one["code"], one["where"], one["what"]) for one in part["findings"]]
    assert any(one[:3] == (row.level, row.code, row.where) and row.what in one[3] for one in found), found
    if row.code in ("WIRE_PORT", "WIRE_SLOW"):
        other_way = BACK if row.where == THERE else THERE
        assert not any(one[1] == row.code and one[2] == other_way for one in found), "the other way is right"


def test_one_host_has_no_wires(ready: Cluster) -> None:
    part = network(ready, "--host", "node2")
    assert (part["ok"], part["table"], part["findings"]) == (True, [], [])
    assert "one host: no pairs to measure" in part["notes"]
