"""Hosts that are folders and processes of this machine on loopback, for files that go from one to the next."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, R1Error
from r1deploy.fanout.bringing import Bringing, Files
from r1deploy.fanout.spreading import Told
from r1deploy.onhost import trees
from r1deploy.ssh import Login
from tests.fakehosts import LOOPBACK, LocalSession

MIB = 1 << 20
DICE = random.Random(5)
# Larger than BIG: its parts are kept.
SHARD = DICE.randbytes(17 * MIB)
PARTS = ("gems/FlagGems", "gems/wheels", "gems/manifest.json")
TREE = Files("trees", "trees", PARTS, "list/trees.json", (".git", "__pycache__"), PARTS)
WEIGHTS = Files(
    "weights", "weights", ("",), "list/weights.json", (".*",), follow=True, record="list/record.json",
    wrong="WEIGHTS_DAMAGED",
)  # fmt: skip
# The folders of a host in its orders.
PLACES = ("root", "list", "record", "locks", "guards")


class CountedSession(LocalSession):
    """``sent``: bytes that left the controller."""

    sent = 0

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().send(data)
        self.sent += len(data)


class Way:
    """A way to a host that is this machine; its folders lie in the host's own."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self.login, self._cluster, self._top = Login(host.name, host.address), cluster, cluster.top(host.name)
        self.sessions: list[CountedSession] = []

    def moved(self, order: Any) -> Any:
        """An order whose paths are those of this host."""
        if not isinstance(order, Mapping):
            return order
        own = {name: str(self._top / order[name]) for name in PLACES if isinstance(order.get(name), str)}
        return {**{name: self.moved(value) for name, value in order.items()}, **own}

    def module(self, module: str, order: Mapping[str, Any]) -> CountedSession:
        session = CountedSession(module, self._cluster.change(self.login.host, self.moved(order)), {})
        self.sessions.append(session)
        self._cluster.sessions.append((self.login.host, module, order, session))
        return session

    def no_answer(self, what: str, code: int, said: str) -> R1Error:
        host = self.login.host
        return ApplyError("STEP_FAILED", f"{host}: {what} ended with {code}: {said[-500:]}", host=host)

    def close(self) -> None:
        for session in self.sessions:
            session.process.kill()


Change = Callable[[str, Any], Any]


class Cluster:
    """Hosts with their folders. ``change``: what stands otherwise in an order to a host."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.hosts = [Host(f"node{number}", f"{LOOPBACK}.{number + 60}", 8) for number in range(count + 1)]
        self.sessions: list[tuple[str, str, Mapping[str, Any], CountedSession]] = []
        self.said: list[str] = []
        self.change: Change = lambda _, order: order
        for host in self.hosts:
            (self.top(host.name) / "list").mkdir(parents=True, mode=0o700)

    @property
    def targets(self) -> list[Host]:
        return self.hosts[1:]

    def top(self, name: str) -> Path:
        return self.folder / name

    def bring(self, files: Files, progress: Callable[[str, int, int], None] = lambda *_: None) -> dict[str, str | None]:
        """What came of it: the code of each error."""
        told = Told(self.said.append, progress, lambda: None)
        bringing: Any = Bringing(lambda host: Way(self, host), self.hosts[0], files, told)  # type: ignore[arg-type,return-value]
        ended = bringing.run(self.targets)
        return {name: error.code if error else None for name, error in ended.items()}

    def streams(self) -> list[int]:
        """Bytes of each stream that was spread, lists not counted: each has a secret of its own."""
        orders = [order for _, module, order, _ in self.sessions if module == "relay" and order["op"] == "receive"]
        return list({order["secret"]: order["size"] for order in orders if "sha256" in order["sink"]}.values())

    @property
    def sent(self) -> int:
        return sum(session.sent for *_, session in self.sessions)

    def close(self) -> None:
        for *_, session in self.sessions:
            session.close()


def put(path: Path, data: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))


def grow(cluster: Cluster) -> Path:
    """A built tree on the first host: modes, links, an empty folder, an empty file, two names of one file."""
    top = cluster.top("node0") / "trees" / "gems"
    for number in range(300):
        put(top / f"FlagGems/src/m{number % 7}/f{number}.py", DICE.randbytes(DICE.randrange(1, 9000)))
    put(top / "FlagGems/build.sh", b"#!/bin/sh\n", 0o755)
    put(top / "FlagGems/__init__.py", b"")
    put(top / "FlagGems/.git/config", b"not a part of it")
    put(top / "FlagGems/src/__pycache__/x.pyc", b"not a part of it")
    put(top / "wheels/a.whl", SHARD[: 3 * MIB])
    os.link(top / "wheels/a.whl", top / "wheels/b.whl")
    (top / "FlagGems/empty").mkdir()
    (top / "FlagGems/link").symlink_to("src/m0")
    (top / "FlagGems/away").symlink_to("/usr/lib")
    (top / "FlagGems/python").symlink_to(Path(__file__).resolve())
    trees.store(str(top / "manifest.json"), trees.record(str(top), ["FlagGems", "wheels"]))
    return top


def checkpoint(cluster: Cluster) -> Path:
    top = cluster.top("node0") / "weights"
    put(top / "config.json", b"{}")
    put(top / "model-1.safetensors", SHARD)
    put(top / "sub/model-2.safetensors", SHARD[::-1])
    put(top / ".cache/x", b"not a part of it")
    put(cluster.top("node0") / "elsewhere", b"blob")
    (top / "tokenizer.json").symlink_to("../elsewhere")
    return top
