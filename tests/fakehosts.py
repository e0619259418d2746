"""Hosts without SSH: what a module of ``r1deploy.onhost`` says is told beforehand, or it runs here, in a process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from r1deploy import shipping
from r1deploy.errors import UnreachableError
from r1deploy.session import Kept

Order = Mapping[str, Any]
# The hosts' addresses, of each worker of the tests its own: they listen on the same ports.
LOOPBACK = f"127.0.{os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw')}"
# Module and order → the lines; an error among them is raised there.
Script = Callable[[str, Order], Sequence[str | UnreachableError]]


def order_in(parcel: bytes) -> Order:
    """The order that is sent to a container."""
    first, _, rest = parcel.partition(b"\n")
    archive, length = map(int, first.split())
    order: Order = json.loads(rest[archive : archive + length])
    return order


class ToldSession:
    """Says its lines; a listener says its last one when its input ends."""

    def __init__(self, remote: ToldRemote, module: str, order: Order) -> None:
        self._remote, self._module, self._order = remote, module, order
        self._input_ended = threading.Event()
        self.said, self.deadline = Kept(), None
        self.closed = False

    def send(self, data: bytes) -> None:
        assert self._module == "attached"
        self._order = order_in(data)

    def finish_input(self) -> None:
        self._input_ended.set()

    def read(self) -> Iterator[bytes]:
        *lines, last = self._remote.script(self._module, self._order)
        for line in lines:
            yield self._data(line)
        if self._order.get("op") == "listen":
            assert self._input_ended.wait(60)
        yield self._data(last)

    def _data(self, line: str | UnreachableError) -> bytes:
        if isinstance(line, UnreachableError):
            raise line
        return line.encode() + b"\n"

    def code(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True
        self._input_ended.set()


class ToldRemote:
    """A host that says what it is told to. ``orders``: what was asked of it."""

    def __init__(self, name: str, script: Script) -> None:
        self.name, self.script = name, script
        self.sessions: list[ToldSession] = []
        self.orders: list[Order] = []

    def module(self, module: str, order: Order) -> ToldSession:
        self.orders.append(order)
        self.sessions.append(ToldSession(self, module, order))
        return self.sessions[-1]

    def lost(self, module: str, order: Order) -> ToldSession:
        """In place of ``module``: a host that is not there."""
        raise UnreachableError("SSH_TIMEOUT", f"{self.name}: the link is down", host=self.name)

    def __enter__(self) -> ToldRemote:
        return self

    def __exit__(self, *_: object) -> None:
        assert all(session.closed for session in self.sessions)


class LocalSession:
    """A module in a process of its own on this machine, started as on a host."""

    def __init__(self, module: Any, order: Order, environ: Mapping[str, str]) -> None:
        argv = [sys.executable, "-S", "-c", shipping.LOADER, module]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **environ})
        self.said, self.deadline = Kept(), float("inf")
        self.send(shipping.parcel(module, order))

    def send(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def finish_input(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def read(self) -> Iterator[bytes]:
        assert self.process.stdout and self.process.stderr
        while True:
            if time.monotonic() > self.deadline:
                raise UnreachableError("SSH_TIMEOUT", "no answer in time")
            if not select.select([self.process.stdout], [], [], 0.1)[0]:
                continue
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                break
            yield data
        self.said.write(self.process.stderr.read())

    def code(self) -> int:
        return self.process.wait(10)

    def close(self) -> None:
        self.finish_input()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


class LocalRemote:
    """A host that is this machine. ``change``: what stands otherwise in the orders to it."""

    def __init__(self, name: str, change: Callable[[Order], Order] = dict, **environ: str) -> None:
        self.name, self._change, self._environ = name, change, environ
        self.sessions: list[tuple[Order, LocalSession]] = []

    def module(self, module: str, order: Order) -> LocalSession:
        session = LocalSession(module, self._change(order), self._environ)
        self.sessions.append((order, session))
        return session

    def listener(self) -> subprocess.Popen[bytes]:
        """The process that listens."""
        return next(session.process for order, session in self.sessions if order.get("op") == "listen")

    def __enter__(self) -> LocalRemote:
        return self

    def __exit__(self, *_: object) -> None:
        assert all(session.process.returncode is not None for _, session in self.sessions), "all have ended"


def observed(nic: str = "eth1", chips: int = 2) -> Any:
    """As much of a probe as the network's part looks at."""
    net = SimpleNamespace(nic=nic, nics=("lo", "eth1", "eth2"), ports_taken=(22,))
    return SimpleNamespace(net=net, chips=SimpleNamespace(chips=[None] * chips))
