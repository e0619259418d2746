"""``eval`` of a served cluster: the real evalscope, the real way to the head, with a key and through a tunnel."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r1deploy.lab.places import network_prefix
from tests.evalanswers import DATA, Score, answer_rows
from tests.evalhome import eval_home, evalscope
from tests.lab.conftest import Cluster
from tests.lab.proving import on_host

__all__ = ["eval_home", "evalscope"]
pytestmark = [pytest.mark.lab, pytest.mark.long]
TOLD = "/dev/r1lab-answers.jsonl"
KEY = "sk-canary-of-eval"
MACHINE = f"{network_prefix()}.1"


@pytest.fixture
def told(ready: Cluster, tmp_path: Path) -> Iterator[tuple[Cluster, dict[str, Score], dict[str, str]]]:
    """A served cluster whose engine is right and wrong by list, and that asks for a key."""
    rows, expected = answer_rows({"gsm8k": [1, 4], "aime24": [0]}, {"math_500": [2]})
    text = base64.b64encode("".join(json.dumps(row) + "\n" for row in rows).encode()).decode()
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    env = ready.settings(eval__data=DATA, service__api_key_file=tmp_path / "key")
    ready.sh("node1", f"echo {text} | base64 -d > {TOLD}")
    for verb in ("bootstrap", "serve"):
        done = ready.r1(verb, "--yes", env=env)
        assert done.code == 0, done.err
    try:
        yield ready, expected, env
    finally:
        ready.sh("node1", f"rm -f {TOLD} {TOLD}.asked")
        ready.r1("stop")


def scores(found: dict[str, Any]) -> dict[str, Score]:
    (ours,) = [column for column in found["columns"] if column["title"] == "ours"]
    return {
        name: Score(cell["questions"], *(round(cell[key] * cell["questions"]) for key in ("share", "cut")))
        for name, cell in ours["sets"].items()
        if cell
    }


def test_what_serves_is_asked(
    told: tuple[Cluster, dict[str, Score], dict[str, str]], eval_home: Path, tmp_path: Path
) -> None:
    cluster, expected, env = told
    done = cluster.r1("eval", "--sets", "gsm8k,math_500", "--json", env=env, timeout=900)
    assert done.code == 0, done.text[-3000:]
    found = json.loads(done.out)
    assert scores(found) == {name: expected[name] for name in ("gsm8k", "math_500")}
    # The head's port lets nobody in: the questions go over SSH.
    rule = f"INPUT -s {MACHINE} -p tcp --dport 9010 -j REJECT"
    page = tmp_path / "scores.html"
    with on_host(cluster, "node1", f"iptables -I {rule}", f"iptables -D {rule}"):
        done = cluster.r1("eval", "--sets", "aime24", "--json", "--out", str(page), env=env, timeout=900)
    assert done.code == 0, done.text[-3000:]
    assert scores(json.loads(done.out)) == {"aime24": expected["aime24"]}
    assert "AIME" in page.read_text()
    left = [path for path in eval_home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert left and not [path for path in left if "env" not in path.parts and KEY.encode() in path.read_bytes()]
    assert KEY not in done.text
