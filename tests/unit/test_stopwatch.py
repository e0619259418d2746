"""How long nobody is answered: what is measured, by whose marks, and what is remembered of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from r1deploy import content
from r1deploy.ansible.events import Event
from r1deploy.errors import ApplyError
from r1deploy.planning.recorded import Active, Switched
from r1deploy.planning.records import held, remembered
from r1deploy.planning.switchtime import took
from r1deploy.serving import stopwatch, switching
from r1deploy.serving.stopwatch import AFRESH, STOPS, TASKS, Stopwatch
from tests.unit.test_serving import ACTIVE, host
from tests.unit.test_switching import changed, serving_now, view

NAME = "aaaaaaaaaaaa/bbbbbbbbbbbb"
SEEN = {"at": "2026-01-01T00:00:00+00:00", "gap": True, "seconds": 18.2, "parts": {"stop": 1.1, "engine": 17.1}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A second hand that is moved by hand."""
    hand = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: hand.now)
    return hand


def after(watch: Stopwatch, clock: SimpleNamespace, *steps: tuple[str, float]) -> Stopwatch:
    """Ansible's tasks and the gate's parts, and how long each takes."""
    for name, seconds in steps:
        if name in STOPS or name in TASKS or " " in name:
            watch.heard(Event("task", "service", name, None))
            watch.heard(Event("ok", "service", name, "node1"))
        else:
            watch.begin(name)
        clock.now += seconds
    return watch


UPGRADE = (
    ("Start the new container afresh", 5),
    ("Stop the former release", 1.5),
    ("Give it its release's name", 0.25),
    ("Give it the name", 0.25),
    (AFRESH, 0.25),  # on no host: the task is named before that is known
    ("Write down what is active", 0.25),
    ("Start Ray", 3),
    ("Run vllm serve", 1),
    ("engine", 10),
    ("gate", 2),
)


def test_another_release(clock: SimpleNamespace) -> None:
    """What comes before the stop is no gap."""
    found = after(Stopwatch(served=True), clock, *UPGRADE).end()
    assert found.gap and found.seconds == 18.5
    assert found.parts == {"stop": 1.5, "switch": 1.0, "ray": 3.0, "engine": 11.0, "gate": 2.0}


def test_another_configuration_of_one_release(clock: SimpleNamespace) -> None:
    """Its container is the one that serves: to start it afresh is the stop."""
    steps = (("Give it the name", 1), (AFRESH, 2), ("Write down what is active", 1), ("Run flagscale serve", 3))
    found = after(Stopwatch(served=True), clock, *steps, ("engine", 4), ("gate", 1)).end()
    assert found.parts == {"stop": 2.0, "switch": 1.0, "ray": 3.0, "engine": 4.0, "gate": 1.0} and found.seconds == 11.0


def test_a_first_start_has_no_gap(clock: SimpleNamespace) -> None:
    watch = Stopwatch(served=False)
    watch.ray = False
    found = after(watch, clock, ("Give it the name", 1), (AFRESH, 1), ("Run flagscale serve", 3), ("engine", 4)).end()
    assert not found.gap and found.parts == {"switch": 2.0, "engine": 7.0}
    assert took(found) == "the start took 9.0 s: switch 2.0, engine 7.0"


def test_a_restart_begins_with_its_stop(clock: SimpleNamespace) -> None:
    watch = after(Stopwatch(served=True), clock, ("End its processes by starting it afresh", 2), ("checks", 3))
    found = after(watch, clock, ("Give it the name", 1), (AFRESH, 2), ("Start Ray", 1), ("gate", 1)).end()
    assert found.gap and found.parts == {"stop": 2.0, "checks": 3.0, "switch": 3.0, "ray": 1.0, "gate": 1.0}


@pytest.mark.parametrize("first", ["Stop the former release", AFRESH], ids=["another release", "the same container"])
def test_the_gap_of_a_release_that_failed_is_that_of_both(clock: SimpleNamespace, first: str) -> None:
    watch = after(Stopwatch(served=True), clock, ("Stop the former release", 1), ("engine", 59))
    watch.failed()
    found = after(watch, clock, ("Find the release's container", 1), (first, 2), ("Start Ray", 3), ("engine", 35)).end()
    assert found.gap and found.seconds == 101.0
    assert found.parts == {"failed": 61.0, "stop": 2.0, "ray": 3.0, "engine": 35.0}
    words = "the service was away for 101.0 s (2 min): the release that failed 61.0, stop 2.0, Ray 3.0, engine 35.0"
    assert took(found) == words


def test_until_something_is_stopped_what_serves_is_spared(clock: SimpleNamespace) -> None:
    watch = after(Stopwatch(served=True), clock, ("Start the new container afresh", 5), ("Give it the name", 1))
    assert watch.spared
    assert not after(watch, clock, ("Stop the former release", 1)).spared
    assert not Stopwatch(served=False).spared


def test_the_tasks_are_those_of_the_role() -> None:
    """A task of another name would begin no part."""
    named = set()
    for path in (content.ROLES / "service" / "tasks").glob("*.yml"):
        named |= {row["name"] for row in yaml.safe_load(path.read_text(encoding="utf-8"))}
    assert STOPS | set(TASKS) <= named
    text = (content.ROLES / "service" / "tasks" / "activate.yml").read_text(encoding="utf-8")
    order = [row["name"] for row in yaml.safe_load(text)]
    wanted = ["Start the new container afresh", "Put the former release aside", "Give it the name", AFRESH]
    assert [name for name in order if name in wanted] == wanted, "nothing is stopped before what can come before it"


@pytest.mark.parametrize("broken", [None, [], {NAME: 1}, {NAME: {**SEEN, "seconds": -1}}, {NAME: {"gap": True}}])
def test_an_active_json_without_times_or_with_broken_ones_is_one(broken: Any) -> None:
    """An older r1deploy writes none; what somebody wrote by hand costs the times only."""
    assert Active.model_validate({**ACTIVE, "switches": broken}).switches == {}
    assert Active.model_validate(ACTIVE).switches == {}
    kept = Active.model_validate({**ACTIVE, "switches": {NAME: SEEN, "x/y": broken}}).switches
    assert kept == {NAME: Switched.model_validate(SEEN)}


def test_only_what_is_on_the_head_is_remembered_and_releases_shows_it() -> None:
    seen = host("node1", state__active__switches={NAME: SEEN, "gone/gone": SEEN})
    seen.state.releases["aaaaaaaaaaaa"].configs["bbbbbbbbbbbb"] = {}
    rows = remembered(seen.state.active, seen.state.releases)
    assert rows == {NAME: SEEN}
    assert remembered(None, seen.state.releases) == {}
    (row,) = held("deepseek-r1", "node1", {"node1": seen})
    assert row.switched == Switched.model_validate(SEEN)
    (row,) = held("deepseek-r1", "node1", {"node1": host("node1")})
    assert row.switched is None


def test_a_switch_that_failed_before_its_stop_puts_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """To put it back would stop and start what serves."""
    said: list[str] = []
    run: Any = SimpleNamespace(say=said.append)

    def fails(*_: object) -> None:
        raise ApplyError("STEP_FAILED", "no container here")

    monkeypatch.setattr(switching, "start", fails)
    monkeypatch.setattr(switching, "is_starting", lambda *_: False)
    monkeypatch.setattr(switching, "put_back", lambda *_: pytest.fail("it was put back"))
    monkeypatch.setattr(switching, "end_failed", lambda *_: pytest.fail("it was ended"))
    with pytest.raises(ApplyError, match="no container here"):
        switching.switch(run, view(serving_now()), changed(config="cccccccccccc"))
    assert said == [f"nothing was stopped: release {NAME} serves on"]


def test_what_active_json_says_keeps_the_times_until_the_gate() -> None:
    """An interrupted switch loses none."""
    seen = serving_now()
    assert seen.active
    times = {NAME: Switched.model_validate(SEEN)}
    active = seen.active.model_copy(update={"switches": times})
    whole = view(seen.__class__(active, seen.record, health=200))
    whole.probed.observed["node1"].state.releases["aaaaaaaaaaaa"].configs["bbbbbbbbbbbb"] = {}
    wanted = changed(config="cccccccccccc")
    assert switching.active_of(whole, wanted, active)["switches"] == {NAME: SEEN}
