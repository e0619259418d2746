"""One run at a time: who holds the cluster, waiting, and locks of the dead that free themselves."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1deploy.runlock import SILENCE_SECONDS
from tests.lab.conftest import Cluster
from tests.lab.running import Running, assert_nothing_left, refused

pytestmark = pytest.mark.lab
TREES = "/var/lib/r1deploy/trees"


@pytest.fixture
def more(ready: Cluster) -> None:
    """More for the next bootstrap to do: vLLM is built again too."""
    ready.sh("node1", f"rm -f {TREES}/flagscale-*/built.json {TREES}/flagscale-*/manifest.json")


@pytest.fixture
def busy(ready: Cluster) -> Iterator[tuple[Cluster, Running]]:
    """A bootstrap that is at work: it loads the image once more on both hosts."""
    for host in ("node1", "node2"):
        ready.sh(host, "docker rmi -f baai:v5 >/dev/null")
    first = Running(ready, "bootstrap", "--yes")
    first.until(r"s  image ")
    yield ready, first
    if first.process.poll() is None:
        first.kill()
    assert ready.r1("bootstrap", "--yes", "--wait").code == 0
    assert ready.plan() == []


def test_second_run_is_told_who_and_may_wait(more: None, busy: tuple[Cluster, Running]) -> None:
    cluster, first = busy
    waiting = Running(cluster, "bootstrap", "--yes", "--wait")
    waiting.until("waiting: root@")
    refused(cluster.r1("bootstrap", "--yes"), 8, "LOCKED", "root@", "runs bootstrap since", "--wait")
    # Read-only verbs never wait, and say what is going on.
    status = json.loads(cluster.r1("status", "--json").out)
    assert status["run"]["verb"] == "bootstrap" and status["run"]["from"]
    held = json.loads(cluster.r1("lock", "status", "--json").out)
    assert held["held"] and held["by"]["who"].startswith("root@")
    # field.md 5.7, 5.8: the run is told as running, and its files are not "left over".
    rows = json.loads(cluster.r1("history", "--json").out)
    assert [row["verb"] for row in rows if row["result"] == "running"] == ["bootstrap"]
    plan = cluster.r1("plan", "--json")
    assert plan.code == 0 and "runs bootstrap since" in " ".join(plan.err.split())
    assert [row for row in json.loads(plan.out)["changes"] if row["step"] == "host"] == []
    assert first.end() == 0, first.text
    assert waiting.end() == 0, waiting.text
    assert cluster.r1("lock", "status").out.strip() == "Nobody holds the cluster."
    assert_nothing_left(cluster)


@pytest.mark.faults
def test_lock_of_a_killed_run_is_free_at_once(busy: tuple[Cluster, Running]) -> None:
    """field.md 6.1: not before the last process of that run has ended."""
    cluster, first = busy
    first.kill()
    first.assert_whole()
    done = cluster.r1("bootstrap", "--yes")
    assert done.code == 0, done.err


def test_lock_of_a_silent_run_frees_itself(more: None, busy: tuple[Cluster, Running]) -> None:
    """The image is loaded to its end without the controller: vLLM is what the second run still finds to do."""
    cluster, first = busy
    first.process.send_signal(signal.SIGSTOP)
    waiting = Running(cluster, "bootstrap", "--yes", "--wait")
    waiting.until("waiting: root@")
    assert waiting.end(SILENCE_SECONDS + 120) == 0, waiting.text
    first.process.send_signal(signal.SIGCONT)
    assert first.end(60) == 8, first.text
    assert "LOCK_LOST" in first.text


@pytest.mark.faults
def test_released_lock_ends_the_run_that_held_it(busy: tuple[Cluster, Running]) -> None:
    """field.md 6.6: at once, and no further task begins."""
    cluster, first = busy
    assert "Released: root@" in cluster.r1("lock", "release", "--yes").out
    assert first.end(5) == 8, first.text
    first.assert_whole()
    assert "LOCK_LOST" in first.text
    assert "Nobody held it." in cluster.r1("lock", "release").out


def test_ssh_failure_is_no_lock(ready: Cluster) -> None:
    done = ready.r1("bootstrap", "--yes", env=ready.settings(ssh__port=2222))
    refused(done, 4, "SSH_REFUSED")
    assert "LOCK" not in done.text


def test_history_from_another_controller(ready: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    ready.sh("node2", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
    assert ready.r1("bootstrap", "--yes").code == 0
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    here = json.loads(ready.r1("history", "--json").out)
    there = json.loads(ready.r1("history", "--json", env={"XDG_STATE_HOME": str(elsewhere)}).out)
    assert there and there[-1]["id"] in [row["id"] for row in here]
    last = there[-1]
    assert (last["verb"], last["result"], sorted(last["hosts"])) == ("bootstrap", "ok", ["node1", "node2"])
    assert last["log"] is None
    mine = next(row for row in here if row["id"] == there[-1]["id"])
    rows = [json.loads(line) for line in Path(mine["log"]).read_text(encoding="utf-8").splitlines()]
    assert any(row["step"] == "config" and row["host"] == "node2" for row in rows)
