"""One host of a chain, in a process of its own on loopback: what it takes, passes on and refuses, and how it ends.

The engine behind it is a stand-in that says so: ``tests/loadengine.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import relaylink, relayring
from r1deploy.onhost.saying import MARK
from tests.fakehosts import LOOPBACK, LocalSession
from tests.loadengine import NAME, LoadEngine

SECRET = "secret-of-the-run"
MIB = 1 << 20
DATA = random.Random(7).randbytes(5 * MIB + 77)
Row = dict[str, Any]


class Host:
    """A relay, its engine and the rows it said."""

    def __init__(self, number: int, engine: LoadEngine, **change: Any) -> None:
        self.address, self.engine, self.rows = f"{LOOPBACK}.{number}", engine, list[Row]()
        order = {
            "op": "receive",
            "address": self.address,
            "allowed": [f"{LOOPBACK}.{row}" for row in range(1, 9)],
            "secret": SECRET,
            "size": len(DATA),
            "sha256": hashlib.sha256(DATA).hexdigest(),
            "room": 2 * MIB,
            "patience": 10.0,
            "sink": {"socket": str(engine.path), "name": NAME},
        }
        self.session = LocalSession("relay", {**order, **change}, {})
        self.session.deadline = time.monotonic() + 30
        self._left = b""
        self._read = self.session.read()

    def until(self, *kinds: str) -> Row:
        """The first new row of these kinds, or an empty one at its end."""
        for data in self._read:
            self._left += data
            while b"\n" in self._left:
                line, _, self._left = self._left.partition(b"\n")
                row: Row = json.loads(line.removeprefix(MARK.encode()))
                self.rows.append(row)
                if row["kind"] in kinds:
                    return row
        return {}

    def feed(self, data: bytes, word: bytes = b"feed\n") -> None:
        """Over its standard input, as the first host of a chain."""
        with contextlib.suppress(BrokenPipeError):
            self.session.send(word + data)

    def take_from(self, other: Host, port: int, turn: int = 1) -> None:
        self.session.send(f"from {turn} {other.address} {port}\n".encode())


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Any]:
    """Makes hosts, with what stands otherwise in their orders; all end with the test."""
    with contextlib.ExitStack() as stack:

        def make(number: int, engine: dict[str, Any] | None = None, **change: Any) -> Host:
            made = LoadEngine(tmp_path / f"{number}.sock", **(engine or {}))
            stack.callback(made.close)
            host = Host(number, made, **change)
            stack.callback(host.session.close)
            return host

        yield make


def stream(address: str, port: int, secret: str = SECRET, own: int = 8, start: int = 0) -> socket.socket:
    return relaylink.joined(f"{LOOPBACK}.{own}", (address, port), secret.encode(), start)


def test_a_host_loads_what_comes_over_its_standard_input_and_passes_it_on(hosts: Any) -> None:
    first = hosts(1)
    port = first.until("ready")["port"]
    second = hosts(2)
    second.until("ready")
    second.take_from(first, port)
    assert second.until("joined")["turn"] == 1
    first.feed(DATA)
    for host in (first, second):
        done = host.until("done", "error")
        assert (done["kind"], done["bytes"], done["sha256"]) == ("done", len(DATA), hashlib.sha256(DATA).hexdigest())
        assert host.engine.whole == [done["sha256"]]
        host.session.finish_input()
        assert host.session.code() == 0


def test_the_engine_never_gets_the_end_of_what_is_wrong(hosts: Any) -> None:
    host = hosts(1)
    host.until("ready")
    host.feed(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    row = host.until("done", "error")
    assert row["code"] == "TARBALL_DAMAGED" and "r1deploy.lock says" in row["message"]
    assert host.engine.ended.wait(5)
    assert host.engine.whole == [] and host.engine.bytes <= len(DATA) - MIB
    assert host.session.code() == 1


def test_an_image_that_the_engine_made_of_a_wrong_stream_is_removed(hosts: Any) -> None:
    host = hosts(1, {"early": True}, sha256="0" * 64)
    host.until("ready")
    host.feed(DATA)
    assert host.until("done", "error")["code"] == "TARBALL_DAMAGED"
    assert host.engine.images == {}


@pytest.mark.parametrize("early", [False, True], ids=["it stays", "it has its name again"])
def test_an_image_that_was_there_before_is_there_after_a_wrong_stream(hosts: Any, early: bool) -> None:
    host = hosts(1, {"early": early}, sha256="0" * 64)
    host.engine.images[NAME] = "sha256:before"
    host.until("ready")
    host.feed(DATA)
    assert host.until("done", "error")["code"] == "TARBALL_DAMAGED"
    assert host.engine.images == {NAME: "sha256:before"}


def test_what_the_engine_says_is_the_error(hosts: Any) -> None:
    host = hosts(1, {"refuse": (MIB, "write /layer.tar: no space left on device")})
    host.until("ready")
    host.feed(DATA)
    row = host.until("done", "error")
    assert row["kind"] == "error" and "no space left on device" in row["message"]


def test_no_engine_is_said(hosts: Any, tmp_path: Path) -> None:
    host = hosts(1, sink={"socket": str(tmp_path / "none"), "name": NAME})
    assert host.until("ready", "error")["code"] == "ENGINE_DOWN"


@pytest.mark.parametrize(("own", "secret"), [(8, "another"), (9, SECRET)], ids=["wrong secret", "strange address"])
def test_a_stranger_gets_nothing(hosts: Any, own: int, secret: str) -> None:
    host = hosts(1)
    port = host.until("ready")["port"]
    with pytest.raises(OSError, match=r"closed it|reset"):
        stream(host.address, port, secret, own)
    host.feed(DATA)
    assert host.until("done", "error")["kind"] == "done", "and it holds nobody"


def test_a_host_that_does_not_know_the_secret_is_not_believed(hosts: Any) -> None:
    before = hosts(1, secret="another")
    port = before.until("ready")["port"]
    host = hosts(2)
    host.until("ready")
    host.take_from(before, port, 5)
    row = host.until("joined", "lost")
    assert (row["kind"], row["turn"]) == ("lost", 5)


def test_one_that_lost_its_place_goes_on_where_it_was(hosts: Any) -> None:
    host = hosts(1)
    port = host.until("ready")["port"]
    got = b""
    with stream(host.address, port) as first:
        host.feed(DATA[: 3 * MIB])
        while len(got) < 3 * MIB - 1000:
            got += first.recv(1000)
    with stream(host.address, port, start=len(got)) as again:
        host.feed(DATA[3 * MIB :], b"")
        while data := again.recv(1 << 16):
            got += data
            if len(got) == len(DATA):
                break
    assert got == DATA
    assert host.until("done", "error")["kind"] == "done"


def test_one_that_takes_nothing_is_let_go_and_cannot_come_back(hosts: Any) -> None:
    data = DATA * 8  # more than what the kernel keeps for a connection
    host = hosts(1, size=len(data), sha256=hashlib.sha256(data).hexdigest(), patience=0.2)
    port = host.until("ready")["port"]
    with stream(host.address, port) as idle:
        host.feed(data)
        assert host.until("done", "error")["kind"] == "done"
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while part := idle.recv(1 << 20):
                taken += len(part)
    assert taken < len(data)
    with pytest.raises(relayring.Behind):
        stream(host.address, port, start=taken)


def test_a_newer_connection_takes_over(hosts: Any) -> None:
    host = hosts(1)
    port = host.until("ready")["port"]
    with stream(host.address, port) as former, stream(host.address, port), contextlib.suppress(ConnectionResetError):
        assert former.recv(1) == b""


@pytest.mark.parametrize("fed", [True, False])
def test_it_ends_with_its_input(hosts: Any, fed: bool) -> None:
    host = hosts(1)
    host.until("ready")
    if fed:
        host.feed(DATA[:1000])
    host.session.finish_input()
    assert host.until("done", "error") == {}
    assert host.session.code() == 0
    assert host.engine.ended.wait(5) and host.engine.whole == []


def test_it_ends_when_nobody_reads_its_rows(hosts: Any) -> None:
    host = hosts(1)
    host.until("ready")
    assert host.session.process.stdout
    host.session.process.stdout.close()
    assert host.session.process.wait(10) == 1


def test_a_listener_that_cannot_bind_says_so(hosts: Any) -> None:
    host = hosts(1, address="192.0.2.1")
    assert host.until("ready", "error")["code"] == "PEER_UNREACHABLE"


@pytest.mark.long
def test_a_large_file_needs_little_memory(hosts: Any) -> None:
    size, zeros = 1 << 30, bytes(MIB)
    digest = hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(zeros)
    host = hosts(1, size=size, sha256=digest.hexdigest(), room=32 * MIB)
    host.session.deadline = time.monotonic() + 300
    host.until("ready")
    host.feed(b"")
    for _ in range(size // MIB):
        host.feed(zeros, b"")
    assert host.until("done", "error")["kind"] == "done"
    status = Path(f"/proc/{host.session.process.pid}/status").read_text(encoding="utf-8")
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    assert peak < 96 << 10, f"{peak} KiB"


def test_ring_keeps_what_the_sink_did_not_take() -> None:
    ring = relayring.Ring(relayring.BLOCK * 2, 1 << 40, 0)
    for letter in b"ab":
        room = ring.room()
        room[:] = bytes([letter]) * len(room)
        ring.put(len(room))
    assert ring.for_sink() == b"a" * relayring.BLOCK
    ring.sunk(relayring.BLOCK)
    assert ring.for_sink() == b"b" * relayring.BLOCK
    assert len(ring.room()) == relayring.BLOCK and ring.start == relayring.BLOCK
    with pytest.raises(relayring.Behind):
        ring.join(0)


class Clock:
    """Seconds that pass when the test says so; a wait takes what it is told, and lets the sink and the next move."""

    def __init__(self, share: float) -> None:
        self.now, self.share = 0.0, share

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("share", "kept"), [(0.95, True), (0.8, True), (0.6, True), (0.4, False), (0.0, False)])
def test_only_one_that_holds_the_others_most_of_the_time_is_let_go(
    monkeypatch: pytest.MonkeyPatch, share: float, kept: bool
) -> None:
    """The sink takes a block a second where it has one; the successor takes a share of that."""
    clock = Clock(share)
    monkeypatch.setattr(relayring, "time", clock)
    ring = relayring.Ring(relayring.BLOCK * 4, 1 << 40, 10.0)
    ticket, owed, taken = ring.join(0), 0.0, 0

    def second(timeout: float = 1.0) -> bool:
        nonlocal owed, taken
        clock.now += timeout
        if ring.end > ring._sunk:
            ring._sunk += min(ring.end - ring._sunk, int(relayring.BLOCK * timeout))
        owed += relayring.BLOCK * timeout * share
        while owed >= relayring.BLOCK and ring.end > taken and not ring.late.is_set():
            owed -= relayring.BLOCK
            taken += len(ring.for_next(ticket, taken))
            if ring._next is not None:
                ring._next = taken
        return True

    monkeypatch.setattr(ring._changed, "wait", second)
    for _ in range(120):
        ring.put(len(ring.room()))
        second(1.0)
    assert ring.late.is_set() is not kept


def test_a_host_without_a_source_says_where_it_is(hosts: Any) -> None:
    host = hosts(1)
    host.until("ready")
    host.session.send(b"leave 3\n")
    row = host.until("lost")
    assert (row["turn"], row["place"]) == (3, 0)
