"""One file to many hosts, which are processes here on loopback; their Docker Engines are stand-ins that say so."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, R1Error, UnreachableError
from r1deploy.fanout import spreading
from r1deploy.fanout.chain import Chain, Member
from r1deploy.fanout.relayrows import Lost, Ready, relay_row_of
from r1deploy.fanout.spreading import Load, Told, spread
from r1deploy.ssh import Login
from tests.fakehosts import LOOPBACK, LocalRemote, LocalSession
from tests.loadengine import NAME, LoadEngine

MIB = 1 << 20
DATA = random.Random(11).randbytes(6 * MIB + 5)


class CountedSession(LocalSession):
    """``sent``: bytes that left the controller. A broken pipe is an error of ours, as on a real link."""

    sent = 0

    def send(self, data: bytes) -> None:
        try:
            super().send(data)
        except (OSError, ValueError) as error:
            raise UnreachableError("SSH_FAILED", str(error)) from None
        self.sent += len(data)


class Way(LocalRemote):
    """A host that is this machine, as a link."""

    def __init__(self, host: Host, socket: Path, change: Mapping[str, Any]) -> None:
        super().__init__(host.name, lambda order: {**order, "sink": {**order["sink"], "socket": str(socket)}, **change})
        self.login = Login(host.name, host.address)
        self.reachable = True

    def module(self, module: str, order: Mapping[str, Any]) -> LocalSession:
        if not self.reachable:
            raise UnreachableError("SSH_TIMEOUT", f"{self.name}: it does not answer in time", host=self.name)
        session = CountedSession(module, self._change(order), self._environ)
        self.sessions.append((order, session))
        return session

    def no_answer(self, what: str, code: int, said: str) -> R1Error:
        return ApplyError("STEP_FAILED", f"{self.name}: {what} ended with {code}: {said[-500:]}", host=self.name)

    def kill(self) -> None:
        for _, session in self.sessions:
            session.process.kill()

    close = kill

    @property
    def sent(self) -> int:
        return sum(session.sent for _, session in self.sessions if isinstance(session, CountedSession))


class Cluster:
    """Hosts, their engines, and what was said."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hosts = folder, list[Host]()
        self.ways: dict[str, Way] = {}
        self.engines: dict[str, LoadEngine] = {}
        self.said: list[str] = []
        self.settled: list[tuple[str, str | None]] = []
        self.file = folder / "image.tar"
        self.holds(DATA)

    def holds(self, data: bytes) -> None:
        """What the file is."""
        self.file.write_bytes(data)
        self.size, self.sha256 = len(data), hashlib.sha256(data).hexdigest()

    def add(self, engine: Mapping[str, Any] | None = None, **change: Any) -> Way:
        number = len(self.hosts) + 1
        host = Host(f"node{number}", f"{LOOPBACK}.{number + 20}", 8)
        self.engines[host.name] = LoadEngine(self.folder / f"{number}.sock", **(engine or {}))
        self.ways[host.name] = Way(host, self.engines[host.name].path, change)
        self.hosts.append(host)
        return self.ways[host.name]

    def spread(
        self, progress: Callable[[str, int, int], None] = lambda *_: None, check: Callable[[], None] = lambda: None
    ) -> dict[str, str | None]:
        """What came of it: the code of each error."""
        load = Load(self.file, self.size, self.sha256, {"socket": "", "name": NAME})

        def settled(host: str, error: R1Error | None) -> None:
            assert self.engines[host].whole == ([] if error else [self.sha256])
            self.settled.append((host, error.code if error else None))

        told = Told(self.said.append, progress, check, settled)
        ended: Any = spread(self.ways, self.hosts, load, told)  # type: ignore[arg-type]
        for name, error in ended.items():
            assert self.engines[name].whole == ([] if error else [self.sha256]), name
        codes = {name: error.code if error else None for name, error in ended.items()}
        assert sorted(self.settled) == sorted(codes.items()), "each host's end is told once"
        return codes

    @property
    def sent(self) -> int:
        """Bytes that left the controller, those of the scripts too."""
        return sum(way.sent for way in self.ways.values())

    def close(self) -> None:
        for way in self.ways.values():
            for _, session in way.sessions:
                session.close()
        for engine in self.engines.values():
            engine.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with contextlib.closing(Cluster(tmp_path)) as made:
        yield made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that the file does not fit into, and little patience."""
    monkeypatch.setattr(spreading, "ROOM", 2 * MIB)
    monkeypatch.setattr(spreading, "PATIENCE", 0.2)
    monkeypatch.setattr(spreading, "MORE", 0)


# What the archive of the relay adds, for each host.
SCRIPTS = 1 << 16


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_controller_sends_once_however_many_there_are(cluster: Cluster, count: int) -> None:
    for _ in range(count):
        cluster.add()
    assert cluster.spread() == {host.name: None for host in cluster.hosts}
    assert len(DATA) <= cluster.sent <= len(DATA) + count * SCRIPTS
    assert cluster.said == []


def test_a_file_that_is_another_one_is_nowhere_loaded(cluster: Cluster) -> None:
    cluster.add()
    cluster.add()
    cluster.file.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    assert set(cluster.spread().values()) == {"TARBALL_DAMAGED"}


def test_a_file_that_became_shorter_is_nowhere_loaded(cluster: Cluster) -> None:
    cluster.add()
    cluster.add()
    cluster.file.write_bytes(DATA[:-10])
    assert set(cluster.spread().values()) <= {"TARBALL_DAMAGED", "PEER_UNREACHABLE"}


@pytest.mark.parametrize("place", [1, 2, 3], ids=["first", "middle", "last"])
def test_a_host_that_is_killed_in_the_middle_is_skipped(cluster: Cluster, place: int) -> None:
    for _ in range(3):
        cluster.add({"pause": 0.1})
    name = f"node{place}"

    def progress(host: str, done: int, _: int) -> None:
        if host == name and done > MIB and cluster.ways[name].sessions[0][1].process.poll() is None:
            cluster.ways[name].kill()

    ended = cluster.spread(progress)
    assert ended.pop(name) == "STEP_FAILED"
    assert set(ended.values()) == {None}
    assert any(name in line and line.startswith("skipped") for line in cluster.said)
    assert cluster.sent <= 2 * len(DATA) + 3 * SCRIPTS


@pytest.mark.parametrize("place", [1, 2])
def test_a_host_without_ssh_is_skipped(cluster: Cluster, place: int) -> None:
    for _ in range(3):
        cluster.add()
    cluster.ways[f"node{place}"].reachable = False
    ended = cluster.spread()
    assert ended.pop(f"node{place}") == "SSH_TIMEOUT"
    assert set(ended.values()) == {None}


def test_a_host_that_no_other_one_reaches_gets_it_in_a_second_go(cluster: Cluster) -> None:
    cluster.add()
    cluster.add(address=f"{LOOPBACK}.99")  # it listens elsewhere than the others are told, and connects from there
    cluster.add()
    cluster.add()
    assert set(cluster.spread().values()) == {None}
    assert 2 * len(DATA) <= cluster.sent <= 2 * len(DATA) + 4 * SCRIPTS
    assert [line for line in cluster.said if "node2 does not reach node1" in line]


@pytest.mark.usefixtures("small")
def test_a_slow_host_holds_nobody_and_gets_the_rest_afterwards(cluster: Cluster) -> None:
    cluster.holds(bytes(64 * MIB))  # more than what the kernel keeps for a connection
    for _ in range(3):
        cluster.add()
    held = cluster.engines["node2"].open
    held.clear()

    def progress(host: str, done: int, total: int) -> None:
        if host == "node1" and done == total:
            held.set()

    assert set(cluster.spread(progress).values()) == {None}
    assert [line for line in cluster.said if "node2" in line and "when the others are done" in line], cluster.said
    assert cluster.sent <= 2 * cluster.size + 3 * SCRIPTS
    assert cluster.engines["node2"].begun == 1, "it goes on where it was"


def test_a_full_disk_is_named_and_holds_nobody(cluster: Cluster) -> None:
    cluster.add()
    cluster.add({"refuse": (2 * MIB, "write /layer.tar: no space left on device")})
    cluster.add()
    assert cluster.spread() == {"node1": None, "node2": "DISK_FULL", "node3": None}


def test_no_engine_is_named(cluster: Cluster) -> None:
    cluster.add()
    cluster.engines["node1"].close()
    cluster.engines["node1"].path.unlink()
    assert cluster.spread() == {"node1": "ENGINE_DOWN"}


class LostLock(Exception):
    """What a check raises."""


def test_what_ends_the_run_ends_all_of_it(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.add({"pause": 0.5})
    seen: list[int] = []

    def check() -> None:
        if seen and seen[-1] > MIB:
            raise LostLock

    with pytest.raises(LostLock):
        cluster.spread(lambda _, done, __: seen.append(done), check)
    for way in cluster.ways.values():
        assert way.sessions[0][1].process.wait(10) is not None
    for engine in cluster.engines.values():
        assert engine.ended.wait(10) and engine.whole == []


def member(number: int) -> Member:
    made = Member(Host(f"node{number}", f"192.0.2.{number}", 8))
    made.listens(7000 + number)
    return made


def arranged(members: list[Member]) -> Chain:
    chain = Chain(members)
    for row, source in list(chain.arrange()):
        if source is None:
            row.waits = False
        else:
            assert row.told(source) == f"from {row.turn} {source.host.address} {source.port}"
            row.joining = False
    return chain


def test_after_the_loss_of_a_host_the_next_one_goes_on_at_the_one_before() -> None:
    first, second, third = members = [member(number) for number in (1, 2, 3)]
    chain = arranged(members)
    assert chain.after_loss(third) is second, "once more: only the connection may have ended"
    third.told(second)
    assert chain.after_loss(third) is None
    second.fails(R1Error("BUG", "gone"))
    assert chain.after_loss(third) is first
    first.fails(R1Error("BUG", "gone"))
    assert chain.after_loss(third) is None


def test_the_one_that_has_least_is_fed_first_and_the_others_hang_on_what_hangs_on_it() -> None:
    first, second, third, fourth = members = [member(number) for number in (1, 2, 3, 4)]
    chain = arranged(members)
    first.has()
    second.stops(500)
    fourth.stops(300)
    assert chain.stands
    assert [(row.name, source and source.name) for row, source in chain.arrange()] == [
        ("node4", None),
        ("node2", "node4"),
    ]
    fourth.told(third)
    assert not chain.stands, "it still joins"


@pytest.mark.parametrize(
    "line",
    [
        None,
        [],
        {"kind": []},
        {"kind": "ready"},
        {"kind": "ready", "port": 0},
        {"kind": "ready", "port": "1"},
        {"kind": "lost", "turn": -1, "place": 0, "why": ""},
        {"kind": "lost", "turn": 1, "place": 1 << 60, "why": ""},
        {"kind": "done", "bytes": 1, "seconds": 1.0, "sha256": "x"},
        {"kind": "error", "code": "a b", "message": "", "tail": []},
        {"kind": "error", "code": "A", "message": "x" * 5000, "tail": []},
    ],
)
def test_a_row_of_another_shape_is_none(line: object) -> None:
    assert relay_row_of(line) is None


def test_rows_are_read() -> None:
    assert relay_row_of({"kind": "ready", "port": 7, "more": 1}) == Ready(port=7)
    assert relay_row_of({"kind": "lost", "turn": 1, "place": 2, "why": "w"}) == Lost(turn=1, place=2, why="w")
