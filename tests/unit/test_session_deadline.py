"""A session whose other end does what none of ours does: its deadline ends it all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.connection import Remote
from r1deploy.errors import UnreachableError
from r1deploy.session import Session

TOKEN = "r1-0123456789abcdef"
ENOUGH = 300


class Channel:
    """The other end: what it says, whether it takes input, whether it ever tells an exit code."""

    def __init__(self, says: Callable[[int], bytes], takes: bool = True) -> None:
        self._says, self._takes, self._asked = says, takes, 0
        self.closed = threading.Event()
        self.status_event = SimpleNamespace(wait=self._wait)

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def _wait(self, seconds: float) -> bool:
        self._counted()
        return False

    def _counted(self) -> int:
        self._asked += 1
        assert self._asked < ENOUGH, "nobody waits for it any longer"
        self.closed.wait(0.005)
        return self._asked

    def recv(self, size: int) -> bytes:
        return self._says(self._counted())

    def recv_stderr(self, size: int) -> bytes:
        self.closed.wait(60)
        return b""

    def send(self, data: bytes) -> int:
        self._counted()
        if not self._takes:
            raise TimeoutError
        return len(data)

    def shutdown_write(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        self.closed.set()


class Link:
    """A connection that lives."""

    login: Any = SimpleNamespace(host="node1", password=None)
    alive = True

    def check_link(self) -> None:
        """It is heard."""

    def silent(self, what: str) -> UnreachableError:
        return UnreachableError("SSH_TIMEOUT", f"node1: {what}")

    def failed(self, error: BaseException) -> UnreachableError:
        return UnreachableError("SSH_FAILED", str(error))


def session_of(channel: Channel) -> Session:
    return Session(Link(), channel, TOKEN, None)


def chatter(count: int) -> bytes:
    return b"Welcome to this host. "


def test_a_login_that_talks_for_ever_is_ended() -> None:
    session = session_of(Channel(chatter))
    with pytest.raises(UnreachableError, match="no answer in time"):
        session.begin(0.1)
    session.close()


def test_an_exit_code_that_never_comes_is_not_waited_for() -> None:
    session = session_of(Channel(lambda count: b""))
    session.deadline = 0.0
    with pytest.raises(UnreachableError, match="no answer in time"):
        session.code()
    session.close()


def test_input_that_is_never_taken_ends_with_the_deadline() -> None:
    session = session_of(Channel(chatter, takes=False))
    session.deadline = 0.0
    with pytest.raises(UnreachableError, match="no answer in time"):
        session.send(b"an order")
    session.close()


def test_a_command_that_talks_for_ever_has_its_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(Channel(chatter))
    remote = Remote(Link.login)
    monkeypatch.setattr(remote, "start", lambda command, err: session)
    monkeypatch.setattr("r1deploy.hostlink.time", SimpleNamespace(monotonic=lambda: -1e9))
    with pytest.raises(UnreachableError, match="no answer in time"):
        remote.run("yes", timeout=1)


def test_an_order_that_is_never_taken_leaves_no_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(chatter, takes=False)
    remote = Remote(Link.login)
    monkeypatch.setattr(Link, "login", SimpleNamespace(host="node1", password=None, python=lambda: "python3"))
    remote.login = Link.login
    monkeypatch.setattr(remote, "start", lambda command, err: session_of(channel))
    monkeypatch.setattr("r1deploy.hostlink.time", SimpleNamespace(monotonic=lambda: -1e9))
    with pytest.raises(UnreachableError, match="no answer in time"):
        remote.module("wires", {})
    assert channel.closed.is_set()
