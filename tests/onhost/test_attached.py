"""A command that ends with the connection, and nothing else with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1deploy.onhost import attached

CODE = "import sys; from r1deploy.onhost.attached import main; sys.exit(main(sys.argv[1]))"
TOKEN = "0123456789abcdef"


def started(argv: list[str], token: str = TOKEN, feeding: bool = False) -> subprocess.Popen[str]:
    order = json.dumps({"argv": argv, "token": token, "input": feeding})
    return subprocess.Popen(
        [sys.executable, "-c", CODE, order], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_command_s(script: str, code: int) -> None:
    process = started(["sh", "-c", f"echo out; {script}"])
    assert (process.communicate(timeout=20)[0], process.returncode) == ("out\n", code)


def test_what_it_reads(tmp_path: Path) -> None:
    process = started(["cat"], feeding=True)
    assert process.communicate("one\ntwo\n", timeout=20)[0] == "one\ntwo\n"
    process = started(["cat"])
    assert process.communicate("not for it", timeout=20)[0] == "", "without input there is none"


def test_a_command_that_reads_no_more(tmp_path: Path) -> None:
    process = started(["head", "-c", "1"], feeding=True)
    assert process.communicate("x" * 1_000_000, timeout=20)[0] == "x"
    assert process.returncode == 0


def test_it_ends_with_the_connection(tmp_path: Path) -> None:
    """What carries the mark is ended, also what is no child of ours; what does not is left alone."""
    mark = f"{attached.NAME}={TOKEN}1"
    script = f"setsid env {mark} sh -c 'echo $$ > {tmp_path}/carrier; exec sleep 300' & exec sleep 301"
    other = subprocess.Popen(["sleep", "302"], env={attached.NAME: f"{TOKEN}2"})
    process = started(["sh", "-c", script], f"{TOKEN}1")
    until = time.monotonic() + 20
    while not attached.carriers(mark.encode()) or not (tmp_path / "carrier").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert process.stdout
    process.stdout.close()
    assert process.wait(30) == 1
    assert attached.carriers(mark.encode()) == []
    assert other.poll() is None
    other.kill()
    other.wait()
