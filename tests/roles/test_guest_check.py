"""field.md 5.16: ``r1guest.py --check`` says whether a job would do something, and does nothing."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1deploy import content


def check(job: str, order: dict[str, Any]) -> bool:
    text = base64.b64encode(json.dumps(order).encode()).decode()
    argv = [sys.executable, str(content.HELPERS / "r1guest.py"), "--check", job, text]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True)
    answer = json.loads(done.stdout)
    assert set(answer) == {"changed"}
    return bool(answer["changed"])


def store(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("job", ["unpatch", "build"])
def test_a_tree_that_is_not_there_would_be_made(job: str, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    order = {
        "root": str(root), "key": "k", "force": False, "wheels": str(root / "wheels"),
        "clone": str(root / "FlagScale"), "device_type": "BI_V150",
    }  # fmt: skip
    assert check(job, order)
    assert not root.exists(), "a look leaves nothing"
    (root / "wheels").mkdir(parents=True)
    (root / "wheels" / "one.whl").touch()
    (root / "FlagScale" / "build" / "BI_V150" / "FlagScale").mkdir(parents=True)
    store(root / {"unpatch": "patched.json", "build": "built.json"}[job], {"key": "k"})
    before = sorted(root.rglob("*"))
    assert not check(job, order)
    assert check(job, {**order, "key": "other"}) and check(job, {**order, "force": True})
    assert sorted(root.rglob("*")) == before


def test_an_installation_that_is_not_there_would_be_made() -> None:
    part = {"name": "vllm", "dist": "vllm", "tree": "t", "commands": [], "modules": []}
    assert check("install", {"parts": [part], "imports": []})
