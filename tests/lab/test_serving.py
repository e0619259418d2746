"""What is said to serve, and what is done when it does not: hosts, containers, records and tokens that went away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r1deploy.lab.places import network_prefix
from tests.lab.conftest import NAME, Cluster
from tests.lab.running import apart, refused
from tests.lab.test_flow import started

pytestmark = pytest.mark.lab
NET = network_prefix()
STATE = "/var/lib/r1deploy"


@pytest.fixture(scope="module")
def serving(ready: Cluster) -> Iterator[Cluster]:
    """A service whose engine loads fast and answers as a reasoning model does at first."""
    ready.lab.set_engine_fault("node1", "reasoning", load_seconds=0.5)
    done = ready.r1("serve", "--yes")
    assert done.code == 0, done.err
    # field.md 4.10: all of the answer is reasoning, and the limit came before the content.
    assert "(still reasoning)" in done.out and "stand-in engine" in done.text
    ready.lab.set_engine_fault("node1", None, load_seconds=0.5)
    yield ready
    ready.lab.set_engine_fault("node1", None)
    ready.r1("stop")


def status(cluster: Cluster, *argv: str) -> dict[str, Any]:
    done = cluster.r1("status", "--json", *argv)
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


def far(cluster: Cluster, tmp_path: Path) -> Cluster:
    """The same hosts, the second of which lets nobody in; another port would be another configuration."""
    site = apart(cluster, tmp_path)
    (site.folder / "r1deploy.lock").write_text((cluster.folder / "r1deploy.lock").read_text())
    text = (site.folder / "inventory.ini").read_text()
    (site.folder / "inventory.ini").write_text(text.replace(f"{NET}.12 ", f"{NET}.12 ansible_user=nobody "))
    return site


def test_a_lost_active_json_costs_no_restart(serving: Cluster) -> None:
    """field.md 6.10: shown, planned, written again; the service is not touched."""
    before = started(serving)
    serving.sh("node2", f"mv {STATE}/active.json /tmp/active.json")
    found = status(serving)
    assert found["serving"] is True and found["problems"] == ["node2: active.json: absent"]
    assert [(row["step"], row["host"], row["field"]) for row in serving.plan()] == [("config", "node2", "active.json")]
    refused(serving.r1("serve"), 5, "NOT_BOOTSTRAPPED", "active.json")
    done = serving.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    own, kept = (json.loads(serving.sh("node2", f"cat {path}/active.json")) for path in (STATE, "/tmp"))
    assert own == kept
    assert serving.r1("serve").out.startswith("Serves already.")
    assert started(serving) == before


def test_the_running_service_is_asked_at_its_own_port(serving: Cluster) -> None:
    """field.md 4.9: engine.port was edited, nothing of it is on the hosts yet."""
    found = status(serving, "--set", "engine.port=9020")
    assert found["serving"] is True and found["endpoint"].endswith(":9010/v1") and found["models"] == ["deepseek_r1"]


def test_unknown_is_unknown(serving: Cluster, tmp_path: Path) -> None:
    """field.md 6.8: a silent host makes nothing due on the others, and another id of nothing."""
    whole, part = status(serving), status(far(serving, tmp_path))
    assert (part["release"], part["config"]) == (whole["release"], whole["config"])
    assert part["serving"] is None and part["service"] == "unknown"
    assert set(part["hosts"][0]["steps"].values()) == {True}
    other = far(serving, tmp_path).r1("status", "--json", "--set", "engine.max_num_seqs=3")
    assert json.loads(other.out)["config"] is None
    assert json.loads(other.out)["hosts"][0]["steps"]["config"] is None


def test_a_tree_is_not_built_again_under_the_service(serving: Cluster) -> None:
    """field.md 6.9: another release shares the tree, which is damaged."""
    tree = serving.sh("node2", f"ls -d {STATE}/trees/flaggems-*/FlagGems/setup.py").split()[0]
    serving.sh("node2", f"cp -p {tree} /tmp/setup.py; echo '#' >> {tree}")
    try:
        before = started(serving)
        done = serving.r1("bootstrap", "--yes", "--set", "container.shm_size=31g")
        refused(done, 5, "SERVICE_RUNNING", "node2", f"{NAME} serves", "flaggems-")
        assert started(serving) == before
    finally:
        serving.sh("node2", f"cp -p /tmp/setup.py {tree}")
    assert serving.plan() == []


def test_a_paused_or_lost_node_is_no_service(serving: Cluster) -> None:
    """field.md 6.4, 6.5: paused is shown, planned and mended; a container without its Ray is started properly."""
    serving.sh("node2", f"docker pause {NAME}")
    found = status(serving)
    assert found["serving"] is False and found["problems"] == [f"node2: {NAME} is paused"]
    assert [(row["step"], row["current"]) for row in serving.plan()] == [("container", "paused")]
    refused(serving.r1("serve"), 5, "NOT_BOOTSTRAPPED", "paused → running")
    assert serving.r1("bootstrap", "--yes").code == 0
    assert serving.plan() == []
    serving.sh("node2", f"docker restart -t 1 {NAME}")
    found = status(serving)
    assert found["serving"] is False and found["problems"] == [f"node2: no node of Ray in {NAME}"]
    done = serving.r1("serve")
    assert done.code == 0, done.err
    assert done.out.startswith("Serves.") and f"node2: no node of Ray in {NAME}" in done.text
    found = status(serving)
    assert (found["serving"], found["ray_nodes"], found["problems"]) == (True, 2, [])


def test_a_healthy_port_without_tokens_does_not_serve(serving: Cluster) -> None:
    """field.md 4.11: a token tells; without one nobody can know, so the age of the last answer is shown."""
    serving.lab.set_engine_fault("node1", "no-tokens", load_seconds=0.5)
    assert status(serving)["serving"] is True
    found = status(serving, "--probe")
    assert (found["serving"], found["service"], found["answer"]) == (False, "no token", None)
    assert found["last_answer"]
    assert "answered " in serving.r1("status").out
    done = serving.r1("serve")
    refused(done, 7, "NO_TOKENS", "gives no token: it is started again")
    serving.lab.set_engine_fault("node1", None, load_seconds=0.5)
    assert serving.r1("serve").out.startswith("Serves.")
    found = status(serving, "--probe")
    assert found["serving"] is True and found["answer"]["tokens"] > 0


def test_a_stop_says_what_it_does_not_know(serving: Cluster, tmp_path: Path) -> None:
    """field.md 6.7; the last one here: the service is gone afterwards."""
    refused(far(serving, tmp_path).r1("stop"), 4, "not known of node2", "stopped on node1")
    assert serving.r1("stop").out.strip() == "Stopped."  # node2's Ray
    assert serving.r1("stop").out.strip() == "Nothing runs."
    assert status(serving)["service"] == "stopped"


def test_a_lost_mark_of_the_build_costs_no_build(serving: Cluster) -> None:
    """field.md 6.11: built.json is not needed once the tree has its manifest."""
    serving.sh("node1", f"rm {STATE}/trees/flagscale-*/built.json")
    assert serving.plan() == []
    serving.sh("node2", f"rm {STATE}/trees/flagscale-*/manifest.json")
    assert {(row["step"], row["host"]) for row in serving.plan()} == {("vllm", "node2")}
    done = serving.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    assert "Build vLLM" not in done.err
    assert serving.plan() == []
