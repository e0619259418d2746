"""The lock's script on the head: an owner that is gone has a moment to end, then the lock is free."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1deploy.onhost import holder

CODE = "import sys; from r1deploy.onhost.holder import main; sys.exit(main(sys.argv[1]))"


def hold(path: Path, silence: int = 20) -> subprocess.Popen[str]:
    order = json.dumps({"op": "hold", "path": str(path), "silence": silence, "info": {"who": "somebody"}})
    return subprocess.Popen(
        [sys.executable, "-c", CODE, order], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def answer(process: subprocess.Popen[str]) -> object:
    assert process.stdout
    mark, rest = process.stdout.readline().split(holder.MARK)
    assert mark == ""
    return json.loads(rest)


def test_a_killed_owner_keeps_it_for_a_moment_and_the_next_one_waits_for_that(tmp_path: Path) -> None:
    """field.md 6.1: the lock is free only after the processes of the run have ended."""
    first, path = hold(tmp_path / "run" / "lock"), tmp_path / "run" / "lock"
    assert answer(first) == {"ok": True}
    assert first.stdin and holder.look_lock(str(path))["who"] == "somebody"
    first.stdin.close()
    until = time.monotonic() + 1
    while holder.look_lock(str(path)) and time.monotonic() < until:
        time.sleep(0.01)
    # The plan of the next run is not told that this one runs, or it would be refused before it could wait.
    assert holder.look_lock(str(path)) is None and holder.is_held(str(path))
    closed = time.monotonic()
    second = hold(path)
    assert answer(second) == {"ok": True}
    assert time.monotonic() - closed > holder.GRACE_SECONDS - 0.2
    assert first.wait(10) == 6
    second.communicate("done\n", timeout=10)


def test_an_owner_that_is_done_frees_it_at_once(tmp_path: Path) -> None:
    first = hold(tmp_path / "lock")
    assert answer(first) == {"ok": True}
    began = time.monotonic()
    first.communicate("done\n", timeout=10)
    assert first.returncode == 0 and time.monotonic() - began < holder.GRACE_SECONDS - 0.2
    assert not (tmp_path / "lock").exists()


def test_another_owner_that_lives_is_named(tmp_path: Path) -> None:
    first = hold(tmp_path / "lock")
    assert answer(first) == {"ok": True}
    second = hold(tmp_path / "lock")
    found = answer(second)
    assert isinstance(found, dict) and found["held"]["who"] == "somebody"
    assert second.wait(10) == 3
    first.communicate("done\n", timeout=10)


def test_an_owner_that_falls_silent(tmp_path: Path) -> None:
    first = hold(tmp_path / "lock", silence=1)
    assert answer(first) == {"ok": True}
    assert first.stdin
    first.stdin.write("step one\n")
    first.stdin.flush()
    assert answer(first) == {"ok": True}
    seen = holder.look_lock(str(tmp_path / "lock"))
    assert seen is not None and (seen["who"], seen["doing"]) == ("somebody", "step one")
    assert first.wait(10) == 4 and not (tmp_path / "lock").exists()


def test_it_can_be_released_by_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = hold(tmp_path / "lock")
    assert answer(first) == {"ok": True}
    order = json.dumps({"op": "release", "path": str(tmp_path / "lock")})
    assert holder.main(order) == 0
    assert json.loads(capsys.readouterr().out.removeprefix(holder.MARK))["released"]["who"] == "somebody"
    assert first.wait(10) == 5
    assert holder.main(order) == 0
    assert json.loads(capsys.readouterr().out.removeprefix(holder.MARK)) == {"released": None}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"pid": true, "start": "1"}', '{"pid": 1}', '{"pid": 999999999, "start": "1"}']
)
def test_a_file_that_names_no_living_process(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock"
    path.write_text(text)
    assert not holder.is_held(str(path)) and holder.look_lock(str(path)) is None


def test_a_shorter_text_over_a_longer_one(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"who": "me"}"somebody"}')
    assert holder.read(str(tmp_path / "lock")) == {"who": "me"}
