"""Two ends of a wire in processes of their own, over loopback: what answers, what does not, and that both end."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from r1deploy import shipping
from r1deploy.assurance import wirejudge
from r1deploy.assurance.wirerows import WireRow, wire_row_of
from r1deploy.onhost import pathmtu, wirereach, wires, wiretalk
from r1deploy.onhost.addresses import own_addresses
from r1deploy.onhost.pathmtu import by_tcp, search
from r1deploy.onhost.routes import interface_to, mtu_of
from r1deploy.onhost.saying import MARK
from r1deploy.onhost.wiretalk import DATA, MAGIC, PING, Until, answer_to, hello, op_of, read_whole

TOKEN = "token-of-the-run"
HERE, THERE = "127.0.0.1", "127.0.0.2"
ENDS = {"node1": HERE, "node2": THERE}
QUICK = {"connect": 0.4, "pair": 8.0, "pings": 20, "streams": 3, "flow_seconds": 2.0, "flow_bytes": 3 << 20}
Row = dict[str, Any]


def free_ports(count: int, address: str = THERE) -> list[int]:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in made:
            one.bind((address, 0))
        return [one.getsockname()[1] for one in made]


def closed(stream: socket.socket) -> bool:
    """Whether the other end has closed it, politely or not."""
    try:
        return stream.recv(100) == b""
    except ConnectionResetError:
        return True


def start(order: Row) -> subprocess.Popen[str]:
    argv = [sys.executable, "-S", "-m", "r1deploy.onhost.wires", json.dumps({"token": TOKEN, **order})]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def row_in(line: str) -> Row:
    """A row as the host says it; the controller understands it."""
    assert line.startswith(MARK), line
    row: Row = json.loads(line[len(MARK) :])
    assert wire_row_of(row) is not None, row
    return row


class End:
    """A listening end; it is over when its input is closed."""

    def __init__(self, **order: Any) -> None:
        self.process = start({"op": "listen", "address": THERE, "deadline": 30, **order})
        assert self.process.stdout
        self.said = row_in(self.process.stdout.readline())

    def close(self) -> list[Row]:
        out, err = self.process.communicate(timeout=10)
        assert self.process.returncode == 0 and err == "", err
        return [row_in(line) for line in out.splitlines()]


@contextlib.contextmanager
def listening(**order: Any) -> Iterator[End]:
    end = End(**order)
    try:
        yield end
    finally:
        end.process.kill()
        end.process.communicate()


def reached(ports: list[int], probe_port: int = 0, name: str = "node2", **order: Any) -> list[Row]:
    peer = {"name": name, "address": ENDS[name], "ports": ports, "probe_port": probe_port}
    process = start({**QUICK, "op": "reach", "source": HERE, "interface": "lo", "peers": [peer], **order})
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and err == "", err
    return [row_in(line) for line in out.splitlines()]


def results(rows: list[Row]) -> dict[int, str]:
    return {row["port"]: row["result"] for row in rows if row["kind"] == "port"}


def test_a_healthy_wire_is_measured_and_nothing_is_left() -> None:
    ports = free_ports(3)
    with listening(ports=ports[:2]) as end:
        assert end.said["ports"] == sorted(ports[:2]) and end.said["held"] == [] and end.said["probe_port"] > 0
        rows = reached(ports, end.said["probe_port"])
        assert results(rows) == {ports[0]: "open", ports[1]: "open", ports[2]: "refused"}
        named = {row["kind"]: row for row in rows}
        assert (named["route"]["source"], named["route"]["interface"]) == (HERE, "lo")
        assert named["delay"]["samples"] == 20 and abs(named["delay"]["offset"]) < 1
        assert [row["streams"] for row in rows if row["kind"] == "flow"] == [1, 3]
        assert all(0 < row["bytes"] <= 3 << 20 and row["gbit"] > 0 for row in rows if row["kind"] == "flow")
        assert named["path"]["how"] == "probes" and named["path"]["path"] == min(named["path"]["interface_mtu"], 65535)
        assert not any(row.get("last") for row in rows) and rows[-1]["kind"] == "done"
        (done,) = end.close()
        assert (done["served"], done["strangers"]) == (9, 0)  # two ports, way, delay, one and three streams, path
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.socket()).bind((THERE, port))


def test_two_ends_that_reach_each_other_are_judged_right() -> None:
    with contextlib.ExitStack() as stack:
        said: dict[str, list[WireRow | None]] = {}
        ports = {name: free_ports(2, address) for name, address in ENDS.items()}
        for name, address in ENDS.items():
            said[name] = [wire_row_of(stack.enter_context(listening(ports=ports[name], address=address)).said)]
        for name, other in (("node1", "node2"), ("node2", "node1")):
            rows = reached(ports[other], name=other, source="")
            said[name] += [wire_row_of(row) for row in rows]
        hosts = {name: [row for row in rows if row] for name, rows in said.items()}
        found = wirejudge.judge(hosts, wirejudge.Limits(floor_gbit=0.0, delay_ms=1000.0))
        assert [one for one in found if one.code != "WIRE_ONE_WAY"] == [], "the speed here is anybody's"
        assert [line.ports for line in wirejudge.table(hosts)] == ["2 of 2", "2 of 2"]


def test_it_listens_as_it_is_shipped_and_ends_with_its_reader() -> None:
    (port,) = free_ports(1)
    argv = shlex.split(shipping.command(sys.executable, "wires"))
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    process.stdin.write(shipping.parcel("wires", {"op": "listen", "token": TOKEN, "address": THERE, "ports": [port]}))
    process.stdin.flush()
    assert row_in(process.stdout.readline().decode())["ports"] == [port]
    assert results(reached([port])) == {port: "open"}
    process.stdout.close()  # nobody reads its last row
    process.stdin.close()
    assert process.wait(10) == 0


def test_where_no_udp_comes_through_tcp_tells_the_mtu() -> None:
    (port,) = free_ports(1)
    with listening(ports=[port]):
        for probe_port in (0, port):  # not asked for; nobody listens there
            (row,) = [row for row in reached([port], probe_port) if row["kind"] == "path"]
            assert row["how"] == "tcp" and row["path"] == row["tcp_mtu"] > 1000


def test_a_port_that_somebody_else_has_is_said_and_tells_that_it_is_open() -> None:
    with socket.socket() as other, contextlib.ExitStack() as stack:
        other.bind((THERE, 0))
        other.listen(5)
        port = other.getsockname()[1]
        end = stack.enter_context(listening(ports=[port]))
        assert end.said["ports"] == [] and end.said["held"] == [{"port": port, "last": "Address already in use"}]
        rows = reached([port], connect=0.2, pair=0.4)
        assert results(rows) == {port: "other"} and [row["kind"] for row in rows] == ["port", "done"]


def test_an_address_that_is_another_hosts() -> None:
    with listening(address="192.0.2.7", ports=[39010]) as end:
        assert end.said["interface"] == "" and end.said["probe_port"] == 0
        assert end.said["held"] == [{"port": 39010, "last": "Cannot assign requested address"}]


def test_a_port_that_swallows_times_out_beside_one_that_answers() -> None:
    (port,) = free_ports(1)
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind((THERE, 0))
        full.listen(0)
        place = full.getsockname()
        for _ in range(3):  # nobody accepts: the backlog is full, and what comes then is dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(place)
        stack.enter_context(listening(ports=[port]))
        assert results(reached([port, place[1]])) == {port: "open", place[1]: "timeout"}


def test_strangers_are_nobodys_and_bounded() -> None:
    ports = free_ports(1)
    with listening(ports=ports, connections=2) as end, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(socket.create_connection((THERE, ports[0]), 5)) for _ in range(4)]
        streams[0].sendall(MAGIC + b"p" + bytes(48))  # a hello of another token
        streams[1].sendall(b"GET / HTTP/1.1\r\n\r\n" * 9)
        assert closed(streams[0]) and closed(streams[1])
        probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        probe.sendto(b"x" * 500, (THERE, end.said["probe_port"]))
        assert results(reached(ports, token="another", pair=3.0))[ports[0]] == "other"
        probe.setblocking(False)
        with pytest.raises(BlockingIOError):
            probe.recv(100)
        (done,) = end.close()
        assert done["served"] == 0 and done["strangers"] >= 3


def test_the_listening_end_is_over_at_its_deadline_whoever_is_connected() -> None:
    ports = free_ports(1)
    with listening(ports=ports, deadline=0.3) as end, socket.create_connection((THERE, ports[0]), 5) as stream:
        stream.sendall(hello(TOKEN.encode(), PING))
        assert len(stream.recv(100)) == 32
        assert end.process.wait(10) == 0 and closed(stream)


def test_the_reaching_end_is_over_at_its_deadline_where_nobody_answers() -> None:
    ports = free_ports(2)
    with listening(ports=ports) as end:
        os.kill(end.process.pid, signal.SIGSTOP)
        rows = reached(ports, pair=0.3)
    assert results(rows) == dict.fromkeys(ports, "other") and rows[-1]["seconds"] < 5


def test_parts_that_fail_say_so_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = free_ports(1)

    def no_route(address: str) -> str:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(wirereach, "interface_to", no_route)
    with listening(ports=ports, bytes=1):  # it closes what brings more than that
        peers = [
            {"name": "node2", "address": THERE, "ports": ports, "probe_port": 0},
            {"name": "node3", "address": "node3", "ports": [1], "probe_port": 0},
        ]
        wires.main(json.dumps({**QUICK, "op": "reach", "token": TOKEN, "peers": peers, "flow_bytes": 1 << 28}))
    rows = [row_in(line) for line in capsys.readouterr().out.splitlines()]
    lasts = {row["kind"]: row["last"] for row in rows if row.get("to") == "node2"}
    assert lasts["route"] == lasts["path"] == "OSError: [Errno 101] Network is unreachable"
    assert lasts["delay"] == "" and "ConnectionError" in lasts["flow"]
    assert [row["last"] for row in rows if row.get("to") == "node3"] == ["this is no address"]


def test_no_time_left_is_said() -> None:
    wire = wirereach.Wire({"token": TOKEN, "pair": 0.0}, {})
    assert wire._attempt(dict) == {"last": "no time was left for it"}


@pytest.mark.parametrize("order", [{"op": "reach"}, {"op": "listen"}, {"op": "listen", "token": "x", "prots": []}])
def test_an_order_needs_a_token_and_known_words(order: Row) -> None:
    with pytest.raises(ValueError, match=r"token|unknown"):
        wires.main(json.dumps(order))


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (TimeoutError("timed out"), ("timeout", "")),
        (TimeoutError(110, "Connection timed out"), ("timeout", "")),
        (ConnectionRefusedError(111, "x"), ("refused", "")),
        (ConnectionResetError(104, "x"), ("reset", "")),
        (OSError(113, "x"), ("unreachable", "No route to host")),
        (OSError(24, "x"), ("failed", "Too many open files")),
    ],
)
def test_how_a_connect_failed(error: OSError, result: tuple[str, str]) -> None:
    named, ms, last = wirereach.failure(error)
    assert ((named, last), ms) == (result, None)


def test_the_token_does_not_cross_the_wire_and_no_hello_is_another_ones() -> None:
    one, two = hello(b"t", DATA), hello(b"t", DATA)
    assert one != two and b"t" * 2 not in one and len(one) == wiretalk.HELLO
    assert op_of(b"t", one) == DATA and op_of(b"other", one) == op_of(b"t", one[:-1]) == op_of(b"t", b"") == b""
    assert answer_to(b"t", one) != answer_to(b"t", two) != answer_to(b"other", two)


def test_who_trickles_is_not_waited_for() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"abc")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            read_whole(right, 4, Until(0.05))
        assert time.monotonic() - began < 5
        left.close()
        with pytest.raises(ConnectionResetError):
            read_whole(right, 4, Until(1))


class Path(pathmtu.Prober):
    """A path that takes packets up to a size."""

    def __init__(self, takes: int, loses: int = 0) -> None:
        self.takes, self.loses, self.rounds = takes, loses, 0

    def came(self, sizes: list[int], until: Until) -> list[int]:
        self.rounds += 1
        assert len(sizes) <= pathmtu.AT_ONCE + 1
        return [size for size in sizes if size <= self.takes and not (size == self.loses and self.rounds < 4)]


@pytest.mark.parametrize("takes", [576, 1111, 1400, 1450, 1499, 1500, 8500, 8999, 9000])
def test_the_path_mtu_is_found_exactly_in_few_rounds(takes: int) -> None:
    for most in (1500, 9000):
        path = Path(takes)
        assert search(path, most, Until(60)) == min(takes, most)
        assert path.rounds <= 6
    assert search(Path(500), 1500, Until(60)) == 0


def test_what_is_lost_by_chance_or_not_waited_for_is_no_border() -> None:
    assert search(Path(9000, loses=9000), 9000, Until(60)) == 9000
    assert search(Path(1400), 1500, Until(0)) == 0, "time was too short to tell"


def test_what_tcp_knows_of_the_path() -> None:
    assert by_tcp(1500, 1448) == by_tcp(1500, 1460) == 1500
    assert by_tcp(9000, 1448) == 1500, "the other end takes no more"
    assert by_tcp(65536, 32768) == 65536 and by_tcp(0, 1448) == 0 and by_tcp(1500, 0) == 1500


def test_interfaces() -> None:
    assert interface_to(HERE) == interface_to(THERE) == "lo"
    assert mtu_of("lo") > 1000 and mtu_of("ens9f9") == 0
    assert own_addresses()[HERE] == "lo"
