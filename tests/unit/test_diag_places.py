"""Where ``diag`` works and where it does not: what serves, which release, which environment; and a signal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1deploy.ansible.failures import Failure
from r1deploy.errors import LockedError, PreflightError, UnreachableError, UsageError
from r1deploy.observe.view import View
from r1deploy.signals import Stopped
from r1deploy.verbs import diag as verb
from tests.diagfakes import Answer, FakeRun, Order, view_of, works

ENGINE = {"processes.engines": [{"pid": 7, "container": "flagrelease_bi"}]}


class Bench:
    """``diag chips`` on fake clusters. ``views``: what ``keep`` was given; ``looks``: what is seen, one a look."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self.looks: list[View] = []

    def keep(self, run: Any, view: View, result: Any) -> Path:
        self.views.append(view)
        return Path("/state/chips.json")

    def look(self, context: Any, lock: Any) -> View:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def chips(self, run: Any, host: str | None = None) -> verb.Diagnosis:
        self.looks = self.looks or [run.view]
        return verb.diag(run, ["chips"], host, lambda *_: None)

    def refused(self, **observed: Any) -> PreflightError:
        """What is said before anything is held."""
        run = FakeRun(view_of(**observed), works())
        with pytest.raises(PreflightError) as caught:
            self.chips(run)
        assert run.result is None and run.remotes == []
        return caught.value


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    found = Bench()
    monkeypatch.setattr(verb, "keep", found.keep)
    monkeypatch.setattr(verb, "look", found.look)
    monkeypatch.setattr(verb, "lock_of_any", lambda *_: None)
    return found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (ENGINE, "an engine in flagrelease_bi (pid 7)"),
        ({"processes.raylets": [{"pid": 8, "container": "flagrelease_bi", "gcs": None}]}, "Ray in flagrelease_bi"),
        ({"processes.foreign": [{"pid": 9, "command": "vllm serve x", "container": None}]}, "not ours: vllm serve x"),
    ],
    ids=["an engine", "Ray", "another's"],
)
def test_what_serves_is_named_and_nothing_is_begun(bench: Bench, changes: dict[str, Any], said: str) -> None:
    error = bench.refused(node2=changes)
    assert (error.code, error.exit_code, error.host) == ("DIAG_SERVING", 5, "node2")
    assert f"node2: {said}" in error.message and error.fix


def test_all_that_serves_is_listed(bench: Bench) -> None:
    error = bench.refused(node1=ENGINE, node2=ENGINE)
    assert "2 processes" in error.message and len(error.evidence) == 2
    assert error.fix == "r1deploy stop"


def test_with_a_host_only_that_one_counts(bench: Bench) -> None:
    run = FakeRun(view_of(node2=ENGINE), works())
    assert list(bench.chips(run, "node1").parts) == ["chips"]
    assert {remote.name for remote in run.remotes} == {"node1"}


def test_what_was_started_before_the_cluster_was_held_is_seen(bench: Bench) -> None:
    run = FakeRun(view_of(), works())
    bench.looks = [view_of(), view_of(node1=ENGINE)]
    with pytest.raises(PreflightError, match="share chips"):
        bench.chips(run)
    assert run.result == "DIAG_SERVING" and run.remotes == []


@pytest.mark.parametrize(
    "changes",
    [{"containers": []}, {"containers.0.running": False}, {"containers.0.paused": True}],
    ids=["none", "stopped", "paused"],
)
def test_without_a_container_nothing_is_begun(bench: Bench, changes: dict[str, Any]) -> None:
    error = bench.refused(node2=changes)
    assert (error.code, error.fix) == ("CONTAINER_MISSING", "r1deploy bootstrap")


def test_two_releases_are_not_measured_as_one(bench: Bench) -> None:
    error = bench.refused(node2={"containers.0.release": "0123456789ab"})
    assert error.code == "CONTAINER_MISSING" and "0123456789ab on node2" in error.message


@pytest.mark.parametrize(("silent", "host"), [("node2", None), ("node1", "node2")], ids=["one of all", "the head"])
def test_a_silent_host_refuses(bench: Bench, silent: str, host: str | None) -> None:
    """Without the head nothing keeps other runs away."""
    run = FakeRun(view_of(), works())
    failure = Failure(silent, "probe", "Look", "SSH_REFUSED", "nothing listens", (), "look", True)
    run.view.probed.failures[silent] = failure
    del run.view.probed.observed[silent]
    with pytest.raises(UnreachableError) as caught:
        bench.chips(run, host)
    assert caught.value.host == silent and run.result is None


def test_a_host_that_is_not_there_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="no such host"):
        bench.chips(FakeRun(view_of(), works()), "node9")


def test_the_environment_is_that_of_the_configuration(bench: Bench) -> None:
    run = FakeRun(view_of(), works())
    bench.chips(run)
    commands = [command for remote in run.remotes for command in remote.commands]
    assert len(commands) == 2 and run.said == []
    assert all(one.startswith(f"source {run.view.desired.config_dir}/env.sh && exec ") for one in commands)


def test_an_active_release_is_measured_as_what_it_is(bench: Bench) -> None:
    """Bootstrap has not made a container of what the settings describe: the active one is looked at, and named."""
    active = {"release": "0123456789ab", "config": "ba9876543210"}
    configs = {"configs": {"ba9876543210": {"env.sh": ["0" * 64, "0600"]}}, "records": {}}
    changes = {
        "containers.0.release": "0123456789ab",
        "state.active": active,
        "state.releases": {"0123456789ab": configs},
    }
    run = FakeRun(view_of(node1=changes, node2=changes), works())
    done = bench.chips(run)
    assert (done.release, done.config) == ("0123456789ab", "ba9876543210")
    wanted = bench.views[0].desired
    assert (wanted.release.id, wanted.config_id) == ("0123456789ab", "ba9876543210")
    assert "/releases/0123456789ab/config/ba9876543210/env.sh && " in run.remotes[0].commands[0]
    assert run.said == ["release 0123456789ab is active and is measured; r1deploy.yaml describes another one"]


def test_a_release_without_a_configuration_has_the_containers_environment(bench: Bench) -> None:
    run = FakeRun(view_of(node1={"state.releases": {}}), works())
    bench.chips(run)
    assert run.remotes[0].commands[0].startswith("exec python3 ")
    assert run.said == ["node1: no env.sh of this release: the environment is the container's own"]


def test_where_the_cluster_is_no_longer_held_it_ends_and_keeps_nothing(bench: Bench) -> None:
    """Somebody released it: an engine may start at any moment."""

    def script(host: str, module: str, order: Order) -> list[Answer]:
        run.lost = True
        return works()(host, module, order)

    run = FakeRun(view_of(), script)
    with pytest.raises(LockedError) as caught:
        bench.chips(run)
    assert caught.value.code == run.result == "LOCK_LOST" and bench.views == []


def test_a_signal_says_that_nothing_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise Stopped(2)

    monkeypatch.setattr(verb, "measure_chips", interrupted)
    run = FakeRun(view_of(), works())
    with pytest.raises(Stopped) as caught:
        bench.chips(run)
    said = caught.value.error()
    assert "ends within seconds" in said.message and "begins anew" in str(said.fix)
