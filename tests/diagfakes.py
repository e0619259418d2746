"""A cluster of two hosts for ``diag``, without hosts: what a work says there is a recording, or made."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from r1deploy.errors import UnreachableError
from r1deploy.observe.view import View
from r1deploy.onhost.orders import CHIPS, FORWARD, KERNELS, order_of
from r1deploy.onhost.saying import MARK
from r1deploy.planning.observed import observed_of
from tests.plans.test_plans import BASE, desired_of, fill, hosts_of, lock_of, names_of, put, settings_of

DATA = Path(__file__).parent / "data" / "diag"
Order = Mapping[str, Any]
# What a work says: its lines, or the error that ends it.
Answer = str | UnreachableError
# Host, module, order → what it says.
Script = Callable[[str, str, Order], list[Answer]]
ORDERS = {"chipwork": CHIPS, "kernels": KERNELS, "forward": FORWARD}
LOST = UnreachableError("SSH_TIMEOUT", "the link is down")


def recorded(name: str) -> list[Answer]:
    """What a real accelerator said."""
    return list((DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())


def works(**files: str) -> Script:
    """What a host says by the kind of work: chips, plain, plain_forward, gems, gems_forward, off, off_forward."""

    def script(host: str, module: str, order: Order) -> list[Answer]:
        if module == "chipwork":
            return recorded(files.get("chips", "chips_h200_two"))
        kind = "plain" if not order["flaggems"] else "off" if order["unused"] else "gems"
        return recorded(files[kind if module == "kernels" else f"{kind}_forward"])

    return script


def row(kind: str, **more: Any) -> str:
    """One line of a host."""
    return MARK + json.dumps({"kind": kind, **more})


class Ended(list[Answer]):
    """Lines of a work that ends with another code than 0."""

    def __init__(self, lines: list[Answer], code: int, said: str) -> None:
        super().__init__(lines)
        self.code, self.said = code, said


class FakeSession:
    """One work; ``order`` is known once it was sent."""

    def __init__(self, remote: FakeRemote, module: str) -> None:
        self.remote, self.module = remote, module
        self.deadline: float | None = None
        self.closed = False
        self.said = SimpleNamespace(text="")
        self.answer: list[Answer] = []

    def send(self, data: bytes) -> None:
        first, _, rest = data.partition(b"\n")
        archive, length = map(int, first.split())
        order = json.loads(rest[archive : archive + length])
        order_of(ORDERS[self.module], json.dumps(order))
        self.remote.asked.append((self.module, order))
        self.answer = self.remote.script(self.remote.name, self.module, order)
        self.said.text = self.answer.said if isinstance(self.answer, Ended) else ""

    def finish_input(self) -> None:
        assert self.answer is not None

    def read(self) -> Iterator[bytes]:
        for line in self.answer:
            if isinstance(line, UnreachableError):
                raise line
            yield line.encode() + b"\n"

    def code(self) -> int:
        return self.answer.code if isinstance(self.answer, Ended) else 0

    def close(self) -> None:
        self.closed = True


class FakeRemote:
    """A host that says what it is told to."""

    def __init__(self, name: str, script: Script) -> None:
        self.name, self.script = name, script
        self.asked: list[tuple[str, Order]] = []
        self.sessions: list[FakeSession] = []
        self.commands: list[str] = []

    def module(self, module: str, order: Order) -> FakeSession:
        assert module == "attached"
        command = str(order["argv"][-1])
        self.commands.append(command)
        self.sessions.append(FakeSession(self, shlex.split(command)[-1]))
        return self.sessions[-1]

    def close(self) -> None:
        assert all(session.closed for session in self.sessions), "every work is ended"


def view_of(settings: Mapping[str, Any] | None = None, **observed: Mapping[str, Any]) -> View:
    """Two hosts on which a release is ready. In: settings, and what differs on a host, by dotted path."""
    hosts = hosts_of({})
    wanted = settings_of(BASE["settings"], settings or {})
    desired = desired_of(wanted, lock_of(wanted, BASE["lock"]), hosts, dict.fromkeys(("node1", "node2"), "eth0"))
    seen = {}
    for host in hosts:
        names = names_of(desired, host)
        raw = fill(BASE["observed"], names)
        for path, value in observed.get(host.name, {}).items():
            put(raw, path, value)
        seen[host.name] = observed_of(raw)
    probed: Any = SimpleNamespace(hosts=hosts, observed=seen, failures={})
    nothing: Any = None
    return View(nothing, probed, desired, nothing, nothing)


class FakeRun:
    """A run on such a cluster. ``asked``: by host, each work with its order; ``result``: as the history has it."""

    def __init__(self, view: View, script: Script) -> None:
        self.view, self.script = view, script
        self.settings, self.context = view.desired.settings, None
        self.said: list[str] = []
        self.steps: list[str] = []
        self.remotes: list[FakeRemote] = []
        self.result: str | None = None
        self.lost = False

    def remote(self, view: View, name: str) -> FakeRemote:
        self.remotes.append(FakeRemote(name, self.script))
        return self.remotes[-1]

    def say(self, text: str) -> None:
        self.said.append(text)

    def at(self, step: str) -> None:
        self.steps.append(step)

    def refuse_held(self, view: View) -> None:
        assert self.result is None

    @contextlib.contextmanager
    def hold(self, view: View, verb: str) -> Iterator[None]:
        assert verb == "diag"
        try:
            yield
        except BaseException as error:
            self.result = getattr(error, "code", type(error).__name__)
            raise
        self.result = "ok"

    def asked(self, host: str) -> list[tuple[str, Order]]:
        """All works of a host in their order."""
        return [one for remote in self.remotes if remote.name == host for one in remote.asked]
