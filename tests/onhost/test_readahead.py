"""The checkpoint in the page cache: what comes in, what is there already, what memory and time forbid."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import readahead, saying
from tests.onhost.making import put

NAMES = ("a.safetensors", "b.safetensors")
SIZE = 3 * readahead.BLOCK + 5000
ROOM = {"total_mib": 10_000, "available_mib": 9_000}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shards on a disk, none of them in the page cache, and a host with room."""
    for name in NAMES:
        put(tmp_path / name, os.urandom(SIZE))
        evict(tmp_path / name)
    if held(tmp_path / NAMES[0]):
        pytest.skip("the files lie in memory: nothing can be evicted")
    monkeypatch.setattr(readahead, "look_memory", lambda: ROOM)
    monkeypatch.setattr(readahead, "step_aside", lambda: None)  # of the tests' own process it could not be undone
    return tmp_path


def evict(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def held(path: Path) -> bool:
    """Whether any block is in the page cache whole."""
    return len(list(readahead.absent(str(path)))) < 4


def work(capsys: pytest.CaptureFixture[str], folder: Path, seconds: float = 60) -> tuple[int, list[dict[str, Any]]]:
    code = readahead.main(json.dumps({"folder": str(folder), "seconds": seconds}))
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(saying.MARK) for line in lines)
    return code, [json.loads(line[len(saying.MARK) :]) for line in lines]


def test_all_comes_in_and_is_not_read_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = work(capsys, folder)
    done = {"kind": "done", "total": 2 * SIZE, "before": 0, "read": 2 * SIZE, "why": ""}
    assert (code, rows[-1]) == (0, done)
    assert [list(readahead.absent(str(folder / name))) for name in NAMES] == [[], []]
    if shutil.which("fincore"):
        argv = ["fincore", "--bytes", "--noheadings", "--output", "RES", *(folder / name for name in NAMES)]
        pages = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        assert all(int(row) >= SIZE for row in pages)
    assert work(capsys, folder)[1][-1] == {**done, "before": 2 * SIZE, "read": 0}


def test_what_is_there_already_is_not_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / NAMES[0]).read_bytes()
    last = work(capsys, folder)[1][-1]
    assert (last["before"], last["read"]) == (SIZE, SIZE)


def test_an_index_says_which_files_and_a_link_is_read_once(folder: Path, tmp_path: Path) -> None:
    (folder / "c.safetensors").symlink_to(folder / NAMES[0])
    put(folder / "model.safetensors.index.json", json.dumps({"weight_map": {"x": "c.safetensors", "y": NAMES[0]}}))
    assert readahead.files_of(str(folder)) == [str(folder / NAMES[0])]
    put(folder / "model.safetensors.index.json", json.dumps({"weight_map": {"x": "gone.safetensors"}}))
    assert readahead.files_of(str(folder)) == []


@pytest.mark.parametrize(("available", "files"), [(900, 0), (1000 + SIZE // (1 << 20) + 1, 1), (1000, 0)])
def test_memory_that_others_need_is_left(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, available: int, files: int
) -> None:
    """A tenth of 10 000 MiB stays; the first shards come first."""
    monkeypatch.setattr(readahead, "look_memory", lambda: {**ROOM, "available_mib": available})
    last = work(capsys, folder)[1][-1]
    assert last["why"] == "memory" and SIZE * files <= last["read"] < SIZE * (files + 1)
    assert held(folder / NAMES[0]) == bool(files) and not held(folder / NAMES[1])


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the readers has its first piece in its hands until all of them are told to stop."""
    monkeypatch.setattr(readahead, "TICK", 0.01)
    real = readahead.Reading.__init__

    def began(reading: readahead.Reading, *given: Any) -> None:
        real(reading, *given)
        opened = readahead.open_plain

        def waiting(path: str) -> Any:
            assert reading._stop.wait(60)
            return opened(path)

        monkeypatch.setattr(readahead, "open_plain", waiting)

    monkeypatch.setattr(readahead.Reading, "__init__", began)


@pytest.mark.usefixtures("slow")
def test_memory_that_gets_short_meanwhile_ends_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([9_000, 9_000])
    monkeypatch.setattr(readahead, "look_memory", lambda: {**ROOM, "available_mib": next(told, 100)})
    rows = work(capsys, folder)[1]
    assert rows[0] == {"kind": "progress", "done": 0, "total": 2 * SIZE}
    assert rows[-1]["why"] == "memory" and rows[-1]["read"] <= readahead.READERS * readahead.BLOCK


@pytest.mark.usefixtures("slow")
def test_it_ends_when_its_time_is_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = work(capsys, folder, seconds=0)[1][-1]
    assert last["why"] == "time" and last["read"] <= readahead.READERS * readahead.BLOCK


def test_a_file_that_goes_away_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readahead, "files_of", lambda _: [str(folder / "gone.safetensors")])
    code, rows = work(capsys, folder)
    assert (code, rows[-1]["kind"]) == (1, "error") and "gone.safetensors" in rows[-1]["message"]


def test_no_checkpoint_is_nothing_to_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readahead, "step_aside", lambda: None)
    assert work(capsys, tmp_path / "none")[1][-1]["total"] == 0


@pytest.mark.usefixtures("slow")
def test_it_stops_when_nobody_reads_us(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(readahead, "say", gone)
    reading = readahead.Reading([piece for name in NAMES for piece in readahead.absent(str(folder / name))], 60)
    with pytest.raises(BrokenPipeError):
        reading.all(0, 2 * SIZE)
    assert reading.done <= readahead.READERS * readahead.BLOCK


@pytest.mark.skipif(not shutil.which("ionice"), reason="util-linux says what a process asks of the disk")
def test_it_asks_for_processor_and_disk_when_they_are_idle() -> None:
    """In a process of its own: what it gives up it cannot take back."""
    code = "import os; from r1deploy.onhost.readahead import step_aside; step_aside(); print(os.nice(0), flush=True)"
    argv = [sys.executable, "-c", f"{code}; os.execvp('ionice', ['ionice'])"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split() == ["19", "idle"]
