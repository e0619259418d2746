"""Processes of Ray and the engine: ours by the container's cgroup, the others foreign."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1deploy.onhost import processes
from tests.onhost.making import put

OURS, OTHER = "a" * 64, "b" * 64
CONTAINERS = [
    {"id": OURS, "name": "flagrelease_bi", "release": "r1"},
    {"id": OTHER, "name": "somebody's", "release": None},
]


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "PROC", str(tmp_path))
    return tmp_path


def start(proc: Path, pid: int, command: str, container: str | None = None) -> None:
    put(proc / str(pid) / "cmdline", command.replace(" ", "\0") + "\0")
    put(proc / str(pid) / "cgroup", f"0::/system.slice/docker-{container}.scope\n" if container else "0::/user.slice\n")


def test_ours_and_foreign_ones(proc: Path) -> None:
    start(proc, 1, "/sbin/init")
    start(proc, 2, "/ray/raylet --gcs-address=10.0.0.1:6379 --x", OURS)
    start(proc, 3, "/usr/bin/vllm serve /data1/R1", OURS)
    start(proc, 4, "/ray/gcs_server --log_dir=/tmp", OURS)
    start(proc, 5, "python run_inference_engine.py", OTHER)
    start(proc, 6, "/opt/raylet " + "x" * 200)
    start(proc, 7, "vim raylet.py")
    (proc / "8").mkdir()
    found = processes.look_processes(CONTAINERS)
    assert found["raylets"] == [{"pid": 2, "container": "flagrelease_bi", "gcs": "10.0.0.1:6379"}]
    assert found["engines"] == [{"pid": 3, "container": "flagrelease_bi"}]
    foreign = sorted(found["foreign"], key=lambda row: row["pid"])
    assert [(row["pid"], row["container"]) for row in foreign] == [(5, OTHER[:12]), (6, None)]
    assert len(foreign[1]["command"]) == 120


def test_a_raylet_without_an_address(proc: Path) -> None:
    start(proc, 2, "raylet", OURS)
    assert processes.look_processes(CONTAINERS)["raylets"] == [{"pid": 2, "container": "flagrelease_bi", "gcs": None}]


def test_many_foreign_ones_are_not_all_named(proc: Path) -> None:
    for pid in range(30):
        start(proc, pid, "ray::worker")
    assert len(processes.look_processes([])["foreign"]) == 20


def test_the_real_ones_can_be_read() -> None:
    assert set(processes.look_processes([])) == {"foreign", "raylets", "engines"}
