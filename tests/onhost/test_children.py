"""Work in processes of its own: rows come back, one that hangs or dies is ended, and none is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from r1deploy.onhost import children
from r1deploy.onhost.children import Listener, Task, Tell, run_all, why


class Kept(Listener):
    def __init__(self) -> None:
        self.rows: list[tuple[str, Any]] = []
        self.ends: dict[str, tuple[str, str]] = {}

    def row(self, task: Task, row: dict[str, Any]) -> None:
        self.rows.append((task.name, row))

    def ended(self, task: Task, how: str, last: str) -> None:
        self.ends[task.name] = (how, last)


def kept(*works: Callable[[Tell], None], deadline: float = 20, jobs: int = 2) -> Kept:
    found = Kept()
    run_all([Task(str(n), work, deadline) for n, work in enumerate(works)], jobs, found)
    return found


def refuse(tell: Tell) -> None:
    tell({"row": 1})
    raise TypeError("function takes exactly 25 arguments (21 given)\nmore")


def hang(tell: Tell) -> None:
    tell({"pid": os.getpid()})
    time.sleep(60)


def killed(tell: Tell) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_rows_come_and_the_end_is_told() -> None:
    found = kept(lambda tell: tell({"a": 1}), lambda tell: tell({"long": "x" * 200_000}), lambda tell: None)
    assert sorted(name for name, _ in found.rows) == ["0", "1"]
    assert found.ends == {str(n): ("done", "") for n in range(3)}


def test_what_fails_says_why_and_keeps_its_rows() -> None:
    found = kept(refuse, killed)
    assert found.rows == [("0", {"row": 1})]
    assert found.ends["0"] == ("failed", "TypeError: function takes exactly 25 arguments (21 given)")
    assert found.ends["1"] == ("failed", "ended by signal SIGKILL")


def test_what_hangs_is_ended_with_all_that_it_started() -> None:
    began = time.monotonic()
    found = kept(hang, lambda tell: tell({"b": 1}), deadline=2, jobs=1)
    assert time.monotonic() - began < 10
    assert found.ends == {"0": ("hung", "no end within 2 s"), "1": ("done", "")}
    with pytest.raises(ProcessLookupError):
        os.kill(found.rows[0][1]["pid"], 0)


@pytest.mark.parametrize("code", [0, 1])
def test_what_a_library_ends_is_not_done(code: int) -> None:
    """A vendor's library that gives up calls exit: the rows that are missing then are nobody's success."""
    found = kept(lambda tell: os._exit(code))
    assert found.ends == {"0": ("failed", f"something in it ended it with exit code {code}")}


def test_one_that_cannot_be_ended_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for a driver takes no signal until the driver answers."""
    monkeypatch.setattr(children, "GOING", 0.3)
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    lived: list[int] = []

    class Looking(Kept):
        def ended(self, task: Task, how: str, last: str) -> None:
            super().ended(task, how, last)
            if how == "hung":
                lived.extend(row["pid"] for _, row in self.rows)
                os.kill(lived[0], 0)

    found = Looking()
    run_all([Task("0", hang, 0.2), Task("1", lambda tell: None, 20)], 1, found)
    assert {name: how for name, (how, _) in found.ends.items()} == {"0": "hung", "1": "done"}
    os.kill(lived[0], signal.SIGKILL)
    os.waitpid(lived[0], 0)


def test_nothing_is_left_where_nobody_listens_any_more() -> None:
    class Gone(Kept):
        def row(self, task: Task, row: dict[str, Any]) -> None:
            super().row(task, row)
            raise BrokenPipeError

    found = Gone()
    with pytest.raises(BrokenPipeError):
        run_all([Task("0", hang, 20)], 1, found)
    with pytest.raises(ProcessLookupError):
        os.kill(found.rows[0][1]["pid"], 0)


def test_the_line_that_says_why() -> None:
    assert (
        why(RuntimeError("CUDA error: illegal\nSearch for it\nCompile with X")) == "RuntimeError: CUDA error: illegal"
    )
    assert why(KeyError()) == "KeyError"
    compiling = RuntimeError("at 33:4:\n    x = y\n    ^")
    assert why(compiling) == "RuntimeError: x = y"
    compiling.__cause__ = NameError("y is not there")
    assert why(compiling) == "RuntimeError: NameError: y is not there"
