"""A program that is watched: how far it is, what it said, and that it ends with us."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import watching
from r1deploy.onhost.watching import NO_MEASURE, Measure, watched


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(watching, "say", lambda kind, **row: said.append({"kind": kind, **row}))
    monkeypatch.setattr(watching, "TICK", 0.05)
    return said


def test_what_it_says_and_returns(rows: list[dict[str, Any]]) -> None:
    code = "import os, sys; print(os.environ['WORD'] + sys.stdin.read()); print('10%\\r20%\\n\\n'); sys.exit(3)"
    done = watched([sys.executable, "-c", code], {"WORD": "said "}, NO_MEASURE)
    assert done == (3, ["said ", "10%", "20%"])
    assert rows[-1] == {"kind": "progress", "done": 0, "total": 0}


def test_how_far_it_is(rows: list[dict[str, Any]]) -> None:
    sizes = iter(range(0, 1000, 5))
    watched(["sleep", "0.4"], {}, Measure(lambda: next(sizes), 10))
    said = [row["done"] for row in rows]
    assert said[:3] == [0, 5, 10] and max(said) == 10, "never more than all"


def test_of_a_long_text_the_end_is_kept(rows: list[dict[str, Any]]) -> None:
    _, tail = watched(["seq", "1000"], {}, NO_MEASURE)
    assert (len(tail), tail[-1]) == (watching.KEPT_LINES, "1000")


@pytest.mark.parametrize("polite", [True, False])
def test_it_ends_when_nobody_reads_us(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, polite: bool
) -> None:
    """Its children too; one that does not mind SIGTERM is killed."""
    monkeypatch.setattr(watching, "POLITE_SECONDS", 0.5)
    trap = "" if polite else "trap '' TERM; "
    script = f"{trap}sleep 300 & echo $! $$ > {tmp_path}/pids; while :; do sleep 0.1; done"

    def gone(*_: object, **__: object) -> None:
        if (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().strip():
            raise BrokenPipeError

    monkeypatch.setattr(watching, "say", gone)
    with pytest.raises(BrokenPipeError):
        watched(["sh", "-c", script], {}, NO_MEASURE)
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    until = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_is_not_there(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(FileNotFoundError):
        watched(["/no/such"], {}, NO_MEASURE)
