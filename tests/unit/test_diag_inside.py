"""A work of ``diag`` in a container: how it is started, and what ends it."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.assurance import inside
from r1deploy.assurance.inside import TOO_MUCH, Heard, Place, Work, heard, work_inside
from r1deploy.errors import UnreachableError
from r1deploy.onhost import attached
from r1deploy.voice import Say
from tests.diagfakes import LOST, FakeRemote

PLACE = Place("flagrelease_bi", "python3", "/var/lib/a folder/env.sh")


class Told:
    """A session that says blocks of bytes; ``moments``: what the clock shows, a moment a block."""

    def __init__(self, *blocks: bytes | UnreachableError, code: int = 0, said: str = "") -> None:
        self.blocks, self._code, self.said = blocks, code, SimpleNamespace(text=said)
        self.deadline: float | None = None
        self.ended_input = self.closed = False

    def finish_input(self) -> None:
        self.ended_input = True

    def read(self) -> Iterator[bytes]:
        for block in self.blocks:
            if isinstance(block, UnreachableError):
                raise block
            yield block

    def code(self) -> int:
        return self._code

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A second passes with each look."""
    now = itertools.count(100.0)
    monkeypatch.setattr(inside, "time", SimpleNamespace(monotonic=lambda: next(now)))
    yield


def hear(session: Any, seconds: float = 60.0, line: Say = lambda _: None) -> Heard:
    found = heard(session, seconds, line)
    assert session.closed and session.ended_input
    return found


def test_lines_come_one_by_one_and_whole() -> None:
    said: list[str] = []
    found = hear(Told(b"one\ntw", b"o\nthr", b"ee"), line=said.append)
    assert found == Heard(("one", "two", "three")) and said == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("code", "said", "last"),
    [
        (1, "Traceback (most recent call last):\nModuleNotFoundError: No module named 'x'\n\n", "code 1: ModuleNot"),
        (137, "", "it ended with code 137"),
        (127, "bash: line 1: exec: python9: not found\n", "code 127: bash: line 1: exec: python9: not found"),
    ],
)
def test_an_exit_code_says_why_with_the_last_line(code: int, said: str, last: str) -> None:
    found = hear(Told(b"row\n", code=code, said=said))
    assert found.lines == ("row",) and last in found.last
    assert "Traceback" not in found.last and not found.last.endswith(":")


def test_the_deadline_ends_what_talks_on(clock: None) -> None:
    session = Told(*[b"row\n"] * 50)
    found = hear(session, seconds=5.0)
    assert found.last == TOO_MUCH and 1 <= len(found.lines) < 10
    assert session.deadline == 105.0, "the session ends what is silent"


def test_the_deadline_ends_what_is_silent(clock: None) -> None:
    """The session raises then; what came before is kept."""
    assert hear(Told(b"row\n", LOST), seconds=1.0) == Heard(("row",), TOO_MUCH)


def test_a_link_that_is_lost_in_time_is_an_error() -> None:
    session = Told(b"row\n", LOST)
    with pytest.raises(UnreachableError, match="the link is down"):
        heard(session, 3600.0, lambda _: None)  # type: ignore[arg-type]
    assert session.closed


def test_too_many_lines_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "MOST_LINES", 5)
    said: list[str] = []
    found = hear(Told(b"row\n" * 20, b"more\n"), line=said.append)
    assert found == Heard(("row",) * 5, TOO_MUCH) and len(said) == 5


def test_lines_without_an_end_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "MOST_BYTES", 1 << 20)
    found = hear(Told(*[b"x" * (1 << 16)] * 100))
    assert found.last == TOO_MUCH and sum(map(len, found.lines)) <= (1 << 20) + (2 << 16)


def test_no_more_of_a_last_line_is_told_than_a_reader_takes() -> None:
    assert len(hear(Told(code=1, said="x" * (1 << 20))).last) < 500


def test_an_order_that_nobody_takes_ends_with_the_deadline(clock: None) -> None:
    session: Any = Told()

    def send(data: bytes) -> None:
        assert data == b"order" and session.deadline == 101.0
        raise LOST

    session.send = send
    assert heard(session, 1.0, lambda _: None, b"order") == Heard((), TOO_MUCH) and session.closed


def test_what_hears_may_end_it() -> None:
    def refuse(text: str) -> None:
        raise ValueError(text)

    session: Any = Told(b"row\n")
    with pytest.raises(ValueError, match="row"):
        heard(session, 60.0, refuse)
    assert session.closed


def test_it_runs_under_the_environment_and_ends_with_the_connection() -> None:
    remote: Any = FakeRemote("node1", lambda *_: ["done"])
    orders: list[dict[str, Any]] = []
    plain = remote.module
    remote.module = lambda module, order: (orders.append(order), plain(module, order))[1]
    found = work_inside(remote, PLACE, Work("kernels", {"jobs": 2}, 60.0), lambda _: None)
    assert found == Heard(("done",)) and remote.asked == [("kernels", {"jobs": 2})]
    argv, token = orders[0]["argv"], orders[0]["token"]
    assert orders[0]["input"] is True and f"{attached.NAME}={token}" in argv and len(token) == 32
    *_, container, bash, option, command = argv
    assert (container, bash, option) == ("flagrelease_bi", "bash", "-c")
    assert command.startswith("source '/var/lib/a folder/env.sh' && exec python3 -c ")
    assert shlex.split(command)[-1] == "kernels"
    assert inside.command(Place("c", "python3", ""), "chipwork")[-1].startswith("exec python3 -c ")
