"""What is asked and said before the service is stopped or switched (issue 9 item 11, field.md 5.4, 5.14, 6.7)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.ansible.failures import Failure
from r1deploy.errors import ApplyError, LockedError, UnreachableError
from r1deploy.observe.view import View, beside
from r1deploy.planning.changes import Change
from r1deploy.planning.planner import Plan
from r1deploy.planning.recorded import LockInfo, Record, Switched
from r1deploy.planning.records import differences
from r1deploy.planning.whatserves import Serving
from r1deploy.run import Run, Voice
from r1deploy.serving import switching
from r1deploy.serving.stopwatch import Stopwatch
from r1deploy.ui import lines
from r1deploy.verbs.history import running
from r1deploy.verbs.stop import Ended
from tests.unit.test_serving import HOSTS, RECORD, host, serving

OLD = Record.model_validate({**RECORD, "commits": {"flaggems": "1" * 40, "flagscale": "2" * 40}})


def changed(**values: Any) -> Record:
    return OLD.model_copy(update=values)


def with_files(config: str, files: dict[str, str]) -> Record:
    rows = tuple(row.model_copy(update={"files": files}) for row in OLD.hosts)
    return changed(config=config, hosts=rows)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (changed(commits={"flaggems": "3" * 40, "flagscale": "2" * 40}), ["flaggems: 111111111111 → 333333333333"]),
        (changed(port=9011, mode="ray+vllm"), ["mode: flagscale → ray+vllm", "port: 9010 → 9011"]),
        (changed(trees=("flaggems-1", "flagscale-9")), ["patch or vllm.build: another tree"]),
        (changed(hosts=OLD.hosts[:1]), ["hosts: node1, node2 → node1"]),
        (OLD, []),
    ],
)
def test_what_two_releases_differ_in_is_named(new: Record, said: list[str]) -> None:
    """field.md 5.14"""
    assert list(differences(OLD, new)) == said


def test_a_file_that_names_its_own_folder_is_no_difference() -> None:
    """field.md 5.14: which settings a file holds is said; config_*.yaml differs between any two configurations."""
    old = with_files("b", {"serve/x.yaml": "1", "env.sh": "1", "config_x.yaml": "1"})
    new = with_files("c", {"serve/x.yaml": "2", "env.sh": "1", "config_x.yaml": "2"})
    assert list(differences(old, new)) == [f"engine: another serve/x.yaml on {name}" for name in HOSTS]


def view(found: Serving, lock: LockInfo | None = None, changes: tuple[Change, ...] = ()) -> Any:
    head = host("node1").model_copy(update={"lock": lock})
    observed = {"node1": head, "node2": host("node2", state__leftovers=["/var/lib/r1deploy/incoming.tar"])}
    desired = SimpleNamespace(head=SimpleNamespace(name="node1"), settings=SimpleNamespace(cluster="c"), name="n/new")
    return View(
        None,  # type: ignore[arg-type]
        SimpleNamespace(observed=observed, failures={}),  # type: ignore[arg-type]
        desired,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        Plan(changes, (), (), found),
    )


def serving_now() -> Serving:
    return serving("deepseek-r1", HOSTS, {name: host(name, state__active__seconds=420.0) for name in HOSTS})


def test_it_is_asked_once_before_what_serves_is_stopped() -> None:
    """Item 11: what stops, what starts, how long the last start took; asked again only where that has changed."""
    told: list[switching.Gap] = []
    wanted = changed(config="cccccccccccc", port=9011)
    gap = switching.agree(view(serving_now()), wanted, None, told.append)
    assert told == [gap] and gap.stops == "aaaaaaaaaaaa/bbbbbbbbbbbb" and gap.seconds == 420
    switching.agree(view(serving_now()), wanted, gap, told.append)
    assert len(told) == 1
    switching.agree(view(serving_now()), changed(config="dddddddddddd"), gap, told.append)
    assert len(told) == 2
    text = " ".join(" ".join(lines.gap_lines(gap)).split())
    assert "aaaaaaaaaaaa/bbbbbbbbbbbb serves" in text and "about 7 min" in text and "port: 9010 → 9011" in text


@pytest.mark.parametrize("name", ["nothing serves", "the same again"])
def test_nothing_is_asked_where_nothing_that_serves_is_stopped(name: str) -> None:
    told: list[switching.Gap] = []
    if name == "nothing serves":
        down = {"node1": host("node1", processes__engines=[]), "node2": host("node2")}
        switching.agree(view(serving("deepseek-r1", HOSTS, down)), changed(config="cc"), None, told.append)
    else:
        switching.agree(view(serving_now()), Record.model_validate(RECORD), None, told.append)
    assert told == []


def test_the_one_that_failed_and_the_one_that_comes_back_have_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 5.4: a rollback to OLD fails; r1deploy.yaml, which describes neither, is not asked."""
    said: list[str] = []
    seen = Switched(at="2026-01-01T00:00:00+00:00", gap=True, seconds=95.25, parts={"failed": 60.0, "stop": 1.1})
    served = switching.Served(None, already=False, switched=seen)  # type: ignore[arg-type]
    monkeypatch.setattr(switching, "start", lambda *_: served)
    failed, former = changed(release="old", config="1"), changed(release="new", config="2")
    error = ApplyError("STEP_FAILED", "it broke")
    run: Any = SimpleNamespace(say=said.append, log=None)
    found = switching.put_back(run, view(serving_now()), (failed, former), error, Stopwatch(served=True))
    assert said == ["release old/1 failed: it broke", "putting release new/2 back"]
    away = "the service was away for 95.2 s (2 min): the release that failed 60.0, stop 1.1"
    assert found.message == f"it broke; release new/2 serves again; {away}" and found.code == "STEP_FAILED"


def test_a_stop_that_does_not_know_says_so() -> None:
    """field.md 6.7: exit 4, and what was done elsewhere."""
    failure = Failure("node2", "probe", "Look at the host", "SSH_TIMEOUT", "no answer")
    with pytest.raises(UnreachableError) as caught:
        Ended(("node1",), (failure,)).refuse_unknown()
    assert caught.value.exit_code == 4
    assert "not known of node2" in caught.value.message and "stopped on node1" in caught.value.message
    with pytest.raises(UnreachableError, match="nothing ran on the others"):
        Ended((), (failure,)).refuse_unknown()
    Ended(("node1",), ()).refuse_unknown()


HELD = LockInfo.model_validate(
    {"id": "abc", "who": "u@h", "from": "10.0.0.9", "verb": "bootstrap", "doing": "vllm", "since": 0, "beat": 1}
)


def test_files_of_a_run_that_is_at_work_are_not_left_over() -> None:
    """field.md 5.8"""
    path = "/var/lib/r1deploy/incoming.tar"
    rows = (Change("host", "node2", path, "there", "absent", "left"), Change("config", "node2", "x", "a", "b", "c"))
    assert [row.field for row in beside(view(serving_now(), HELD, rows)).plan.changes] == ["x"]
    assert [row.field for row in beside(view(serving_now(), None, rows)).plan.changes] == [path, "x"]


def run_that(*, waits: bool) -> Run:
    context: Any = SimpleNamespace(settings=SimpleNamespace(cluster="c"))
    return Run(context, Voice(), wait=waits)


def test_a_held_cluster_is_refused_before_more_is_looked_at() -> None:
    """field.md 5.8"""
    with pytest.raises(LockedError, match="runs bootstrap"):
        run_that(waits=False).refuse_held(view(serving_now(), HELD))
    run_that(waits=True).refuse_held(view(serving_now(), HELD))
    run_that(waits=False).refuse_held(view(serving_now(), None))


def test_the_history_has_the_run_that_is_at_work() -> None:
    """field.md 5.7"""
    row = running(HELD)
    assert (row["id"], row["result"], row["verb"], row["time"]) == (
        "abc",
        "running",
        "bootstrap",
        "1970-01-01T00:00:00Z",
    )
