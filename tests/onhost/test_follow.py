"""The last lines of logs, and what comes then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1deploy.onhost import follow
from tests.onhost.making import put

CODE = "import sys; from r1deploy.onhost.follow import main; sys.exit(main(sys.argv[1]))"


def started(pattern: str, count: int, going_on: bool) -> subprocess.Popen[str]:
    order = json.dumps({"pattern": pattern, "count": count, "follow": going_on})
    return subprocess.Popen([sys.executable, "-c", CODE, order], stdout=subprocess.PIPE, text=True)


def said(pattern: str, count: int) -> str:
    return started(pattern, count, False).communicate(timeout=20)[0]


@pytest.mark.parametrize(
    ("text", "count", "wanted"),
    [("1\n2\n3\n", 2, "2\n3\n"), ("1\n2\n3", 2, "2\n3"), ("1\n", 5, "1\n"), ("1\n2\n", 0, ""), ("", 3, "")],
    ids=["lines", "a last line without an end", "fewer than asked for", "none", "empty"],
)
def test_the_last_lines(tmp_path: Path, text: str, count: int, wanted: str) -> None:
    put(tmp_path / "a.log", text)
    assert said(f"{tmp_path}/*.log", count) == wanted


def test_lines_that_are_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.log", "x" * 50 + "\n" + "y" * 50 + "\n" + "z\n")
    monkeypatch.setattr(follow, "BLOCK", 8)
    handle = os.open(tmp_path / "a.log", os.O_RDONLY)
    assert [follow.start_of(handle, count) for count in (0, 1, 2, 3, 9)] == [104, 102, 51, 0, 0]
    os.close(handle)


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.log")
    (tmp_path / "b.log").mkdir()
    (tmp_path / "c.log").symlink_to("/etc/hostname")
    put(tmp_path / "d.log", "mine\n")
    assert said(f"{tmp_path}/*.log", 9) == "mine\n"


def test_it_goes_on_and_ends_with_its_reader(tmp_path: Path) -> None:
    """A file that is replaced, and one that appears later, are read from their beginning."""
    put(tmp_path / "a.log", "old\nlast\n")
    process = started(f"{tmp_path}/*.log", 1, True)
    assert process.stdout and process.stdout.readline() == "last\n"
    with (tmp_path / "a.log").open("a") as stream:
        stream.write("more\n")
    assert process.stdout.readline() == "more\n"
    put(tmp_path / "new", "replaced\n")
    (tmp_path / "new").replace(tmp_path / "a.log")
    assert process.stdout.readline() == "replaced\n"
    put(tmp_path / "b.log", "later\n")
    assert process.stdout.readline() == "later\n"
    assert process.poll() is None
    began = time.monotonic()
    process.stdout.close()
    assert process.wait(10) == 0 and time.monotonic() - began < 5, "although nothing is printed"
