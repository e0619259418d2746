"""The gap of ``serve``: what a client has of it, what is printed, and what ``releases`` remembers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.clients import Client
from tests.lab.conftest import NAME, Cluster
from tests.lab.running import refused

pytestmark = [pytest.mark.lab, pytest.mark.long]
# The engine answers until its container is killed, at some moment of the part "stop"; the gate looks every two seconds
# whether the new one is healthy.
EARLY, LATE = 1.5, 7.0


class Watched(Client):
    """Asks for a token ten times a second; ``gap`` is the longest time between two answers."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, every=0.1, timeout=5)
        self.answers: list[float] = []

    def heard(self, status: int, token: bool) -> None:
        if token:
            self.answers.append(time.monotonic())

    @property
    def gap(self) -> float:
        assert len(self.answers) > 10, "it was asked before and after"
        return max(after - before for before, after in zip(self.answers, self.answers[1:], strict=False))


@pytest.fixture(scope="module")
def serving(ready: Cluster) -> Iterator[Cluster]:
    ready.r1("stop")
    done = ready.r1("serve", "--json")
    assert done.code == 0, done.err
    first = json.loads(done.out)["switch"]
    # Nothing served before: nobody waited for an answer, and nothing was done beforehand.
    assert first["gap"] is False and first["seconds"] > 0 and "page cache" not in done.text
    assert switch_of(ready, "active") == first
    assert "the start took" in ready.r1("releases").text
    yield ready
    ready.r1("stop")


def switch_of(cluster: Cluster, state: str, *argv: str) -> Any:
    """What ``releases`` remembers of the release in that state."""
    rows = json.loads(cluster.r1("releases", "--json", *argv).out)
    return next(row["switch"] for row in rows if row["state"] == state)


@pytest.mark.parametrize(
    "asked", ["engine.max_num_seqs=120", "container.shm_size=30g"], ids=["a configuration", "a release"]
)
def test_what_a_client_waits_is_what_is_printed(serving: Cluster, asked: str) -> None:
    new = ("--set", asked)
    before = switch_of(serving, "active")
    done = serving.r1("bootstrap", "--yes", *new)
    assert done.code == 0, done.err
    with Watched(serving) as client:
        time.sleep(2)
        done = serving.r1("serve", "--yes", "--json", *new)
        assert done.code == 0, done.err
        time.sleep(2)
    found = json.loads(done.out)["switch"]
    assert found["gap"] is True
    parts = found["parts"]
    assert -LATE - parts["stop"] < client.gap - found["seconds"] < EARLY, (client.gap, found)
    assert abs(sum(parts.values()) - found["seconds"]) < 1 and {"stop", "ray", "engine", "gate"} <= set(parts)
    # Before the stop: the weights, and in a container of its own Ray and the engine.
    assert "before that, while it serves" in done.text
    assert "the weights are in the page cache of 2 hosts" in done.text
    assert ("the new containers import ray and vllm" in done.text) == (asked != "engine.max_num_seqs=120")
    # Both are remembered: that of the former release too, where it is still there.
    assert switch_of(serving, "active", *new) == found
    assert switch_of(serving, "previous", *new) == before
    said = serving.r1("releases", *new).text
    assert f"the service was away for {found['seconds']:.1f} s" in said


def test_a_rollback_and_a_restart_have_a_gap_too(serving: Cluster) -> None:
    done = serving.r1("rollback", "--yes", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["switch"]["gap"] is True
    # r1deploy.yaml describes neither of the two: what it describes is put in place, and started again.
    assert serving.r1("bootstrap", "--yes").code == 0
    assert serving.r1("serve", "--yes").code == 0
    done = serving.r1("restart")
    assert done.code == 0, done.err
    assert "time the service was away for" in done.text and "checks" in done.text
    assert serving.r1("serve", "--json").out.count('"switch": null') == 1, "it served already: nothing was switched"


def test_the_way_back_is_a_part_of_the_gap(serving: Cluster) -> None:
    env = serving.settings(env__R1LAB_ENGINE_FAULT="crash-at-start", service__ready_timeout=12)
    assert serving.r1("bootstrap", "--yes", env=env).code == 0
    done = serving.r1("serve", "--yes", env=env)
    refused(done, 7, "ENGINE_DIED", "serves again; the service was away for", "the release that failed")
    found = switch_of(serving, "active")
    assert found["gap"] is True and {"failed", "stop", "engine", "gate"} <= set(found["parts"])


def test_a_new_container_that_cannot_start_stops_nothing(serving: Cluster) -> None:
    """Its Ray is another one on a worker: Ray itself would refuse the node, after the former release was stopped."""
    new = ("--set", "container.shm_size=29g")
    assert serving.r1("bootstrap", "--yes", *new).code == 0
    name = serving.sh("node2", f"docker ps --format '{{{{.Names}}}}' | grep '^{NAME}-'").strip()
    inside = f"docker exec {name} sh -c"
    ray = serving.sh("node2", f"{inside} 'python3 -c \"import ray; print(ray.__file__)\"'").strip()
    serving.sh("node2", f"{inside} 'cp -p {ray} /tmp/own; echo __version__ = \\\"2.0.0\\\" >> {ray}'")
    try:
        with Watched(serving) as client:
            time.sleep(2)
            done = serving.r1("serve", "--yes", *new)
        refused(done, 5, "RELEASE_UNREADY", name, "Ray 2.0.0", "on node1: they do not join; nothing was stopped")
        assert client.gap < 2
        assert serving.r1("serve").out.startswith("Serves already.")
    finally:
        serving.sh("node2", f"{inside} 'cp -p /tmp/own {ray}'")
