"""The sha256 of a checkpoint's files, and what is remembered of them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import hashing, sums
from r1deploy.onhost.saying import Refusal
from tests.onhost.making import put

NAMES = ["a.safetensors", "deep/b.json"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put(tmp_path / "w" / NAMES[0], b"a" * 9_000_000)
    put(tmp_path / "w" / NAMES[1], "b")
    monkeypatch.setattr(hashing, "say", lambda *_, **__: None)
    return tmp_path / "w"


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES}


def test_all_are_read_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = str(tmp_path / "state" / "weights.json")
    assert hashing.sums_of(str(folder), NAMES, record) == (digests(folder), 9_000_001)
    assert sums.known_sums(json.loads(Path(record).read_text()), str(folder), NAMES) == digests(folder)
    before = Path(record).stat().st_mtime_ns
    monkeypatch.setattr(hashing, "open_plain", lambda path: pytest.fail(f"{path} is read again"))
    assert hashing.sums_of(str(folder), NAMES, record) == (digests(folder), 0)
    assert Path(record).stat().st_mtime_ns == before, "nothing new to write down"


def test_what_changed_is_read_again(folder: Path, tmp_path: Path) -> None:
    record = str(tmp_path / "weights.json")
    hashing.sums_of(str(folder), NAMES, record)
    put(folder / NAMES[1], "B")
    assert hashing.sums_of(str(folder), NAMES, record) == (digests(folder), 1)
    put(Path(record), "{")
    assert hashing.sums_of(str(folder), NAMES, record) == (digests(folder), 9_000_001)


def test_how_far_it_is_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = []
    monkeypatch.setattr(hashing, "say", lambda kind, **row: rows.append({"kind": kind, **row}))
    hashing.sums_of(str(folder), NAMES, str(tmp_path / "record"))
    assert rows[-1] == {"kind": "progress", "done": 9_000_001, "total": 9_000_001}


def test_a_file_that_is_written_meanwhile(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hashing.open_plain

    def opened(path: str) -> Any:
        os.utime(path, ns=(1, 1))
        return real(path)

    monkeypatch.setattr(hashing, "open_plain", opened)
    with pytest.raises(Refusal, match="changed while it was read") as error:
        hashing.sums_of(str(folder), NAMES, str(tmp_path / "record"))
    assert error.value.code == "WEIGHTS_BUSY" and not (tmp_path / "record").exists()


def test_it_stops_when_nobody_reads_us(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(hashing, "say", gone)
    with pytest.raises(BrokenPipeError):
        hashing.sums_of(str(folder), NAMES, str(tmp_path / "record"))
    assert not (tmp_path / "record").exists()
