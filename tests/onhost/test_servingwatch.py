"""What the gate asks inside a container: the text of the module, run as the container's Python runs it."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import servingwatch
from r1deploy.session import MARK, answer_in
from tests.onhost.making import put

RAY = """
__version__ = "2.40.0"
def init(**_):
    print("ray's own words")
    {init}
def nodes():
    row = lambda address, alive, **more: {{"NodeManagerAddress": address, "Alive": alive, "Resources": more}}
    return [row("10.0.0.1", True, GPU=16.0), row("10.0.0.2", True, CPU=4), row("10.0.0.3", False, GPU=16.0)]
"""


def ask(folder: Path, init: str = "pass", **order: Any) -> Any:
    """As ``Remote.python_in`` does it, in a container that has a ray."""
    put(folder / "ray.py", RAY.format(init=init))
    argv = [sys.executable, "-c", inspect.getsource(servingwatch), json.dumps(order)]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PYTHONPATH": str(folder)}, check=False)
    return answer_in(done.stdout) if done.returncode == 0 else None


def watch(folder: Path, **more: Any) -> dict[str, Any]:
    order = {"op": "watch", "log": f"{folder}/log", "pid_file": f"{folder}/pid", "offset": 0, "nodes": False, **more}
    return dict(ask(folder, **order))


def test_nothing_has_been_started_yet(tmp_path: Path) -> None:
    assert watch(tmp_path) == {"nodes": None, "alive": None, "log": "", "size": 0}


@pytest.mark.parametrize(
    ("pid", "alive"),
    [(f"{os.getpid()}\n", True), ("999999999", False), ("none", None), ("", None)],
    ids=["ours", "nobody's", "no number", "empty"],
)
def test_whether_the_service_lives(tmp_path: Path, pid: str, alive: bool | None) -> None:
    put(tmp_path / "pid", pid)
    assert watch(tmp_path)["alive"] is alive


def test_the_log_since_the_start(tmp_path: Path) -> None:
    """FlagScale appends to it for ever."""
    put(tmp_path / "log", b"of a former start\nnew \xff\n")
    found = watch(tmp_path, offset=18)
    assert (found["log"], found["size"]) == ("new �\n", 24)
    put(tmp_path / "log", b"x" * 50_000 + b"end")
    found = watch(tmp_path)
    assert (len(found["log"]), found["log"][-3:], found["size"]) == (servingwatch.LOG_BYTES, "end", 50_003)


def test_the_nodes_of_ray(tmp_path: Path) -> None:
    assert watch(tmp_path, nodes=True)["nodes"] == [["10.0.0.1", 16], ["10.0.0.2", 0]]


def test_a_ray_that_is_not_there_yet(tmp_path: Path) -> None:
    found = watch(tmp_path, nodes=True, init="raise ConnectionError('no Ray to connect to' + 'x' * 500)")
    assert found["nodes"] is None and found["ray"].startswith("no Ray to connect to") and len(found["ray"]) == 200


def test_versions(tmp_path: Path) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    assert ask(tmp_path, op="versions") == f"Ray 2.40.0 (Python {python})"
    assert ask(tmp_path, op="none") is None


def test_what_a_start_imports(tmp_path: Path) -> None:
    """Before the former release is stopped: what cannot be imported is told with its reason."""
    python = ".".join(map(str, sys.version_info[:3]))
    put(tmp_path / "vllm.py", "print('its own words')")
    assert ask(tmp_path, op="load", modules=["ray", "vllm"]) == {
        "versions": f"Ray 2.40.0 (Python {python})",
        "why": None,
    }
    assert ask(tmp_path, op="load", modules=["vllm"]) == {"versions": None, "why": None}
    put(tmp_path / "vllm.py", "raise OSError('libcudart.so.12: ' + 'x' * 500)")
    found = ask(tmp_path, op="load", modules=["ray", "vllm"])
    assert found["versions"] is None and found["why"].startswith("vllm: OSError: libcudart.so.12: xxx")
    assert len(found["why"]) == 400


def test_one_mark_for_all() -> None:
    assert servingwatch.MARK == MARK
