"""The critical path of a bootstrap: what chain of work allows no less time."""

from __future__ import annotations

import graphlib
from typing import Any

import pytest

from benchmarks import critical
from benchmarks.critical import Piece
from r1deploy.planning.steps import STEPS


def pieces(**seconds: float) -> dict[Piece, float]:
    return {Piece(name, "n"): value for name, value in seconds.items()}


def needing(**needs: str) -> dict[Piece, tuple[Piece, ...]]:
    return {Piece(name, "n"): tuple(Piece(word, "n") for word in words.split()) for name, words in needs.items()}


def test_the_longest_chain_counts_and_not_the_sum() -> None:
    path = critical.longest(pieces(a=1, b=5, c=3, d=1), needing(a="", b="a", c="a", d="b c"))
    assert path.seconds == 7 and [piece.step for piece in path.pieces] == ["a", "b", "d"]


def test_what_took_no_time_carries_what_comes_before_it() -> None:
    path = critical.longest(pieces(a=4, c=1), needing(a="", b="a", c="b"))
    assert path.seconds == 5 and [piece.step for piece in path.pieces] == ["a", "c"]
    assert critical.longest({}, {}).seconds == 0


def test_a_circle_is_an_error() -> None:
    with pytest.raises(graphlib.CycleError):
        critical.longest({}, needing(a="b", b="a"))


def test_every_step_has_a_place() -> None:
    needs = critical.needs_of(["a", "b"], "a")
    assert set(STEPS) - {"patch"} <= {piece.step for piece in needs if piece.host == "b"}
    assert set(STEPS) <= {piece.step for piece in needs if piece.host == "a"}
    assert Piece("ship vllm", "a") in needs[Piece("vllm", "b")]


class Log:
    """Rows of an event log, as they are written."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = [{"time": 99.0, "note": "of another kind"}]

    lane = ""

    def add(self, time: float, kind: str, step: str, task: str = "", host: str | None = None) -> None:
        row = {"time": time, "kind": kind, "step": step, "task": task, "host": host, "result": {}}
        self.rows.append(row | ({"lane": self.lane} if self.lane else {}))

    def task(self, begun: float, step: str, task: str, **ended: float) -> None:
        self.add(begun, "task", step, task)
        for host, time in ended.items():
            self.add(time, "changed", step, task, host)


def bootstrap() -> Log:
    """Two hosts: the image of ``b`` is slow; the builder ``a`` is held by it until 60, and needs 20 s more."""
    log = Log()
    log.add(100, "play", "host")
    log.task(100, "host", "Make the folders", a=101, b=102)
    log.add(102, "play", "image")
    log.task(102, "image", "Load it", a=112, b=162)
    log.add(162, "play", "sources")
    log.task(162, "sources", "Clone", a=167)
    log.task(167, "sources", critical.WHEEL, a=170)
    log.add(170, "play", "vllm")
    log.task(170, "vllm", "Build", a=180)
    log.add(180, "play", "sources")
    log.task(180, "sources", "Fetch the tree", a=182)
    log.add(182, "play", "sources")
    log.task(182, "sources", "Bring the tree", b=183)
    log.add(183, "play", "install")
    log.task(183, "install", "Install", a=190, b=188)
    return log


def test_a_hosts_time_is_its_own_and_not_that_of_the_slowest() -> None:
    taken = critical.seconds_of([row for row in bootstrap().rows if "kind" in row], "a")
    assert taken == {
        Piece("host", "a"): 1,
        Piece("host", "b"): 2,
        Piece("image", "a"): 10,
        Piece("image", "b"): 60,
        Piece("clone", "a"): 5,
        Piece("sources", "a"): 3,
        Piece("vllm", "a"): 10,
        Piece("ship sources", "a"): 2,
        Piece("sources", "b"): 1,
        Piece("install", "a"): 7,
        Piece("install", "b"): 5,
    }


def test_the_path_of_a_run_has_what_goes_before_and_after_its_events() -> None:
    path = critical.of_run(bootstrap().rows, 95.0, "a")
    # 90 s of events and 5 s around them: host, image and install of b.
    assert path.seconds == 2 + 60 + 5 + 5
    assert [(piece.step, piece.host) for piece in path.pieces] == [("host", "b"), ("image", "b"), ("install", "b")]


def test_a_step_without_a_place_is_said() -> None:
    log = bootstrap()
    log.task(190, "polish", "Polish", a=191)
    with pytest.raises(ValueError, match="polish"):
        critical.of_run(log.rows, 95.0, "a")


def test_a_run_without_events_is_its_own_path() -> None:
    assert critical.of_run([], 1.5, "a").seconds == 1.5


def test_two_lanes_with_tasks_of_one_name_are_told_apart() -> None:
    rows = [
        {"time": 0.0, "kind": "task", "step": "image", "task": "Load", "host": None, "lane": "builder"},
        {"time": 5.0, "kind": "task", "step": "image", "task": "Load", "host": None, "lane": "others"},
        {"time": 6.0, "kind": "ok", "step": "image", "task": "Load", "host": "a", "lane": "builder"},
        {"time": 7.0, "kind": "ok", "step": "image", "task": "Load", "host": "b", "lane": "others"},
    ]
    assert critical.seconds_of(rows, "a") == {Piece("image", "a"): 6.0, Piece("image", "b"): 2.0}


def test_a_run_in_two_lanes_has_the_pieces_of_one_in_a_row() -> None:
    """The image comes from 102 on; the builder clones meanwhile and builds from 112; that of the worker ends at 162."""
    log = Log()
    log.add(100, "play", "host")
    log.task(100, "host", "Make the folders", a=101, b=102)
    log.task(102, "image", "goes from host to host", a=112, b=162)
    log.lane = critical.CLONES
    log.add(103, "play", "sources")
    log.task(103, "sources", "Clone", a=108)
    log.lane = "builder"
    for time in (113, 125):
        log.add(time, "play", "sources")
    log.task(113, "sources", critical.WHEEL, a=116)
    log.task(116, "vllm", "Build", a=126)
    log.lane = "others"
    log.add(163, "play", "sources")
    log.task(163, "container", "Run the container", b=164)
    log.lane = ""
    for _ in range(2):
        log.add(165, "play", "sources")
    log.task(165, "sources", "Fetch the tree", a=167)
    log.task(167, "sources", "Bring the tree", b=168)
    log.task(168, "install", "Install", a=175, b=173)
    assert critical.seconds_of([row for row in log.rows if "kind" in row], "a") == {
        Piece("host", "a"): 1,
        Piece("host", "b"): 2,
        Piece("image", "a"): 10,
        Piece("image", "b"): 60,
        Piece("container", "b"): 1,
        Piece("clone", "a"): 5,
        Piece("sources", "a"): 3,
        Piece("vllm", "a"): 10,
        Piece("ship sources", "a"): 2,
        Piece("sources", "b"): 1,
        Piece("install", "a"): 7,
        Piece("install", "b"): 5,
    }
