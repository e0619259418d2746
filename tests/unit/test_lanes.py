"""Two lanes: what runs beside what, what waits for what, and how one that fails ends the others."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy import applying
from r1deploy.errors import ApplyError, PreflightError
from r1deploy.planning.changes import Change
from r1deploy.planning.planner import Plan
from r1deploy.planning.steps import CLONE, LANES, STEPS, apart, divided, left_of
from r1deploy.run import Run, Voice
from r1deploy.signals import Stopped
from r1deploy.together import Ended, Lanes
from r1deploy.verbs import bootstrap

SECONDS = 60
ALL = ("a", "b", "c")


# What of a plan is in which lane.


def test_each_hosts_part_of_a_step_is_in_one_lane() -> None:
    work = dict.fromkeys(STEPS, ALL) | {"patch": ("b",), CLONE: ("b",)}
    lanes = divided(work, "b")
    assert tuple(lanes) == tuple(LANES)
    rows = [(step, host) for lane in lanes.values() for step, hosts in lane.items() for host in hosts]
    assert sorted(rows) == sorted((step, host) for step, hosts in work.items() for host in hosts)
    assert lanes["clones"] == {CLONE: ("b",)}
    assert set(lanes["builder"]) == {"image", "container", "sources", "patch", "vllm"}
    assert all(hosts == ("b",) for hosts in lanes["builder"].values())
    assert lanes["others"] == {"image": ("a", "c"), "container": ("a", "c")}
    assert lanes["joined"]["vllm"] == ("a", "c"), "the trees travel once both lanes have ended"
    assert left_of(work, *(part for lane, part in lanes.items() if lane != "joined")) == lanes["joined"]


def test_what_a_plan_lacks_no_lane_has() -> None:
    lanes = divided({"container": ("c",), "config": ALL}, "b")
    assert lanes == {
        "first": {},
        "clones": {},
        "builder": {},
        "others": {"container": ("c",)},
        "joined": {"config": ALL},
    }


@pytest.mark.parametrize(
    ("work", "two"),
    [
        ({"vllm": ALL, "container": ALL}, True),
        ({"vllm": ("b",), "image": ("a",)}, True),
        ({"vllm": ("b",), "install": ALL}, False),
        ({"image": ALL, "container": ALL}, False),
        ({"vllm": ("b",), "container": ("b",)}, False),
    ],
    ids=["builds", "builds beside an image", "nobody beside it", "nothing is built", "one host"],
)
def test_two_lanes_only_where_the_builder_builds_beside_others(work: Mapping[str, tuple[str, ...]], two: bool) -> None:
    assert apart(divided(work, "b")) is two


# Work side by side.


@pytest.mark.parametrize("bad", [None, "commits", "tarball"])
def test_the_tarball_is_hashed_while_git_is_asked(monkeypatch: pytest.MonkeyPatch, bad: str | None) -> None:
    """What is said, and the error that is raised, come in one order."""
    hashing, said = threading.Event(), list[str]()

    def proof(name: str, work: Callable[[], object]) -> Callable[..., str]:
        def prove(*_: object) -> str:
            assert work() is not False
            if name == bad:
                raise PreflightError("TARBALL_DAMAGED", name)
            return name

        return prove

    monkeypatch.setattr(bootstrap, "prove_upstreams", proof("commits", lambda: hashing.wait(SECONDS)))
    monkeypatch.setattr(bootstrap, "prove_tarball", proof("tarball", hashing.set))
    monkeypatch.setattr(bootstrap, "prove_key", proof("key", lambda: None))
    rows = tuple(Change(step, "b", "x", "a", "b", "") for step in ("image", "sources", "patch"))
    nothing: Any = None
    view: Any = SimpleNamespace(plan=Plan(rows, (), (), nothing), lock=SimpleNamespace(image=None, patch=None))
    context: Any = SimpleNamespace(settings=None)
    with pytest.raises(PreflightError, match=bad) if bad else contextlib.nullcontext():
        bootstrap.prove(Run(context, Voice(said.append)), view)
    assert said == {None: ["commits", "tarball", "key"], "commits": [], "tarball": ["commits"]}[bad]


def test_where_a_lane_fails_the_others_begin_nothing_new_and_are_waited_for() -> None:
    lanes, begun, ended = Lanes(), threading.Event(), []

    def fails() -> None:
        begun.wait(SECONDS)
        raise ApplyError("STEP_FAILED", "one broke", evidence=["why"])

    def at_work() -> None:
        begun.set()
        assert lanes.failed.wait(SECONDS)
        ended.append("at work")
        raise ApplyError("STEP_FAILED", "so did two")

    def waits() -> None:
        with pytest.raises(Ended):
            lanes.wait_for(threading.Event())
        lanes.may_begin()
        ended.append("never")

    with pytest.raises(ApplyError) as caught:
        lanes.run([fails, at_work, waits])
    assert ended == ["at work"]
    assert caught.value.message == "one broke" and caught.value.evidence == ("why", "so did two")


@pytest.mark.parametrize("error", [ValueError("a bug"), BrokenPipeError()])
def test_a_bug_in_a_lane_ends_all_at_once(error: Exception) -> None:
    lanes, gone = Lanes(), threading.Event()

    def breaks() -> None:
        raise error

    def works() -> None:
        assert lanes.over.wait(SECONDS)
        gone.set()

    with pytest.raises(type(error)):
        lanes.run([breaks, works])
    assert gone.is_set()


def test_a_signal_ends_all_lanes_and_says_where_work_goes_on() -> None:
    lanes, begun = Lanes(), threading.Barrier(3)

    def works(host: str) -> Callable[[], None]:
        def work() -> None:
            begun.wait(SECONDS)
            assert lanes.over.wait(SECONDS)
            raise Ended([host])

        return work

    def sends() -> None:
        begun.wait(SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped) as caught:
            lanes.run([works("b"), works("a"), sends])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.goes_on == "work may go on for a while on a, b"


# The order of a bootstrap.


class Bench:
    """A plan that is applied by stand-ins: what is played, and how the image comes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, work: Mapping[str, tuple[str, ...]], tarball: bool) -> None:
        self.rows: list[tuple[str, dict[str, tuple[str, ...]], bool]] = []
        self.begun: dict[str, threading.Event] = {lane: threading.Event() for lane in (*LANES, "")}
        self.bring: Callable[[Callable[[str, Any], None]], None] = lambda _: None
        self.during: Callable[[str], object] = lambda _: None
        self.travelled: list[list[str]] = []
        rows = [Change(step, host, "x", "a", "b", "") for step in STEPS for host in work.get(step, ())]
        nothing: Any = None
        builder = SimpleNamespace(name="b")
        desired = SimpleNamespace(builder=builder)
        self.view: Any = SimpleNamespace(plan=Plan(tuple(rows), (), (), nothing), desired=desired)
        monkeypatch.setattr(applying, "load_of", lambda _: nothing if not tarball else object())
        monkeypatch.setattr(applying, "bring_image", lambda run, view, load, settled: self.bring(settled))
        monkeypatch.setattr(applying, "play", self.play)
        monkeypatch.setattr(applying, "bring_trees", lambda run, view, steps: self.travel())

    def travel(self) -> None:
        """The trees: when what is played before has been played."""
        self.travelled.append([lane for lane, _, _ in self.rows])

    def play(self, run: Run, view: Any, work: Any, *, cloned: bool, lane: str) -> None:
        run.lanes.may_begin()
        self.rows.append((lane, dict(work), cloned))
        self.begun[lane].set()
        self.during(lane)

    def apply(self) -> list[str]:
        context: Any = SimpleNamespace()
        applying.apply(Run(context, Voice()), self.view, STEPS)
        return [lane for lane, _, _ in self.rows]

    def work(self, lane: str) -> dict[str, tuple[str, ...]]:
        (found,) = [work for name, work, _ in self.rows if name == lane]
        return found


EVERYTHING = dict.fromkeys(STEPS, ALL) | {"patch": ("b",)}


def test_the_builder_clones_while_its_image_comes_and_builds_while_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, EVERYTHING, tarball=True)

    def bring(settled: Callable[[str, Any], None]) -> None:
        assert bench.begun["clones"].wait(SECONDS) and not bench.begun["builder"].is_set()
        settled("b", None)
        assert bench.begun["builder"].wait(SECONDS)
        settled("a", None)
        assert not bench.begun["others"].is_set()
        settled("c", None)

    bench.bring = bring
    # The build does not end before the others have begun.
    bench.during = lambda lane: lane == "builder" and bench.begun["others"].wait(SECONDS)
    assert bench.apply() == ["", "clones", "builder", "others", ""]
    first, *_, last = bench.rows
    assert first[1] == {"host": ALL}
    assert bench.work("builder") == dict.fromkeys(("image", "container", "sources", "patch", "vllm"), ("b",))
    assert last[1] == {"sources": ("a", "c"), "vllm": ("a", "c"), "install": ALL, "trust": ALL, "config": ALL}
    assert all(cloned for lane, _, cloned in bench.rows if lane == "builder"), "it does not clone again"
    assert bench.travelled == [["", "clones", "builder", "others"]]


def test_one_host_has_one_lane_beside_its_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, dict.fromkeys(STEPS, ("b",)), tarball=True)
    bench.bring = lambda settled: settled("b", None)
    assert bench.apply() == ["", "clones", ""]
    assert bench.rows[-1][1:] == ({step: ("b",) for step in STEPS if step != "host"}, True)


@pytest.mark.parametrize(
    "work",
    [{"host": ALL, "container": ALL, "config": ALL}, {"vllm": ("b",), "install": ALL}, {"container": ("a",)}],
    ids=["nothing to build", "nothing beside it", "one other host"],
)
def test_without_two_lanes_there_is_one_play(
    monkeypatch: pytest.MonkeyPatch, work: Mapping[str, tuple[str, ...]]
) -> None:
    bench = Bench(monkeypatch, work, tarball=False)
    assert bench.apply() == [""]
    assert bench.rows == [("", dict(work), False)]


def test_without_two_lanes_the_builder_builds_before_trees_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, {"patch": ("b",), "vllm": ALL, "install": ALL}, tarball=False)
    assert bench.apply() == ["", ""]
    assert [work for _, work, _ in bench.rows] == [
        {"patch": ("b",), "vllm": ("b",)},
        {"vllm": ("a", "c"), "install": ALL},
    ]
    assert bench.travelled == [[""]], "between the two"


def test_an_image_that_others_lack_does_not_hold_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    work = {"image": ("a",), "container": ("a",), "sources": ALL, "vllm": ALL}
    bench = Bench(monkeypatch, work, tarball=True)

    def bring(settled: Callable[[str, Any], None]) -> None:
        assert bench.begun["builder"].wait(SECONDS)
        settled("a", None)

    bench.bring = bring
    assert bench.apply() == ["builder", "others", ""]
    assert bench.rows[0][1:] == ({"sources": ("b",), "vllm": ("b",)}, False)


def test_a_pulled_image_comes_beside_the_clones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, EVERYTHING, tarball=False)
    pulled: list[bool] = []

    def during(lane: str) -> None:
        if lane == "builder" and not pulled:
            pulled.append(bench.begun["clones"].wait(SECONDS))

    bench.during = during
    lanes = bench.apply()
    assert sorted(lanes[1:-1]) == ["builder", "builder", "clones", "others"] and pulled == [True]
    built = [work for lane, work, _ in bench.rows if lane == "builder"]
    assert built[0] == {"image": ("b",)} and "vllm" in built[1]


def test_a_host_without_its_image_lets_nothing_new_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, EVERYTHING, tarball=True)

    def bring(settled: Callable[[str, Any], None]) -> None:
        assert bench.begun["clones"].wait(SECONDS)
        settled("a", ApplyError("DISK_FULL", "a: image: full"))
        settled("b", None)
        settled("c", None)
        raise ApplyError("DISK_FULL", "a: image: full", host="a")

    bench.bring = bring
    with pytest.raises(ApplyError, match="full"):
        bench.apply()
    assert [lane for lane, _, _ in bench.rows] == ["", "clones"]
