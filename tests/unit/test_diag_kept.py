"""What a part of ``diag`` leaves behind: all of it here, a summary on each host that took part."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.assurance import diagkept
from r1deploy.assurance.diagkept import PartResult, folder_of, keep
from r1deploy.errors import ApplyError, UnreachableError
from r1deploy.onhost import diagfile
from r1deploy.planning.diagrecord import DiagRecord, standings, status_rows
from r1deploy.planning.layout import Layout
from r1deploy.settings import redact

RESULT = PartResult(
    "kernels", False, {"node1": 16, "node2": 16}, ["topk is wrong"], ["mm is slow"], {"hosts": {"node1": {"rounds": 2}}}
)


class Session:
    """A module at work on a host that is a folder here."""

    deadline: float | None = None

    def __init__(self, order: dict[str, Any]) -> None:
        self.order, self.ended, self.said = order, 0, SimpleNamespace(text="")

    def finish_input(self) -> None:
        pass

    def read(self) -> Iterator[bytes]:
        self.ended = diagfile.main(json.dumps(self.order))
        self.said.text = "Banner\nno room on the device\n" if self.ended else ""
        yield b""

    def code(self) -> int:
        return self.ended

    def close(self) -> None:
        pass


class Host:
    """A connection to a host whose folder lies under ``top``; ``gone``: it does not answer."""

    def __init__(self, name: str, top: Path, *, gone: bool) -> None:
        self.name, self.top, self.gone = name, top, gone
        self.closed = False

    def module(self, module: str, order: dict[str, Any]) -> Session:
        assert module == "diagfile"
        if self.gone:
            raise UnreachableError("SSH_TIMEOUT", f"{self.name}: the link is down")
        return Session({**order, "path": f"{self.top}/{self.name}{order['path']}"})

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "here"))
    for name in ("node1", "node2", "node3"):
        (tmp_path / name / "state").mkdir(parents=True)
    return tmp_path


def kept(top: Path, result: PartResult, run_id: str = "0a1b2c", gone: str = "") -> tuple[Path, list[str]]:
    """Keep a result; its file, and what was said."""
    said: list[str] = []
    run: Any = SimpleNamespace(
        id=run_id,
        settings=SimpleNamespace(cluster="lab"),
        layout=Layout("/state"),
        say=said.append,
        remote=lambda _, name: Host(name, top, gone=name == gone),
    )
    view: Any = SimpleNamespace(desired=SimpleNamespace(release=SimpleNamespace(id="aaaaaaaaaaaa"), config_id="bbbb"))
    return keep(run, view, result), said


def record(top: Path, host: str) -> DiagRecord:
    return DiagRecord.model_validate(diagfile.summaries(str(top / host / "state" / "diag.json")))


def test_all_of_it_is_here_and_a_summary_on_each_host(top: Path) -> None:
    path, said = kept(top, RESULT)
    assert said == [] and path.parent == top / "here" / "r1deploy" / "diag" / "lab"
    assert path.name.endswith("-0a1b2c-kernels.json") and path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert time.strptime(whole.pop("time"), "%Y-%m-%dT%H:%M:%SZ")
    assert whole == {
        "cluster": "lab",
        "part": "kernels",
        "run": "0a1b2c",
        "release": "aaaaaaaaaaaa",
        "config": "bbbb",
        "ok": False,
        "chips": {"node1": 16, "node2": 16},
        "findings": ["topk is wrong"],
        "warnings": ["mm is slow"],
        "result": {"hosts": {"node1": {"rounds": 2}}},
    }
    for host in ("node1", "node2"):
        entry = record(top, host).kernels
        assert entry is not None and (entry.ok, entry.chips, entry.findings, entry.run) == (False, 16, 1, "0a1b2c")
    assert list((top / "node3" / "state").iterdir()) == [], "it took no part"


def test_parts_stand_side_by_side_and_status_reads_them(top: Path) -> None:
    kept(top, RESULT)
    kept(top, PartResult("chips", True, {"node1": 16, "node2": 8}, [], [], {}))
    records = {host: record(top, host) for host in ("node1", "node2")}
    rows = status_rows(standings("aaaaaaaaaaaa", ("node1", "node2"), records), time.time() + 3 * 86_400)
    assert rows == [
        "chips: verified on 2 hosts, 24 chips, 3 days ago",
        "kernels: found something wrong 3 days ago: r1deploy diag kernels",
        "network: never",
    ]


def test_a_host_that_cannot_take_it_is_named(top: Path) -> None:
    (top / "node2" / "state").rmdir()
    path, said = kept(top, RESULT, gone="node1")
    assert path.exists() and [row.split(": diag.json does not say what kernels found: ") for row in said] == [
        ["node1", "node1: the link is down"],
        ["node2", "it ended with code 1: no room on the device"],
    ]


def test_no_secret_is_in_the_file(top: Path) -> None:
    redact.remember("hunter2-hunter2")
    path, _ = kept(top, PartResult("network", True, {"node1": 0}, [], [], {"env": {"TOKEN": "x hunter2-hunter2 y"}}))
    assert "hunter2-hunter2" not in path.read_text(encoding="utf-8")


def test_the_oldest_ones_go(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagkept, "KEEP", 2)
    folder_of("lab").mkdir(parents=True)
    for day in ("01", "02", "03"):
        (folder_of("lab") / f"202601{day}T000000Z-aaaa-chips.json").write_text("{}")
    path, _ = kept(top, RESULT)
    assert sorted(row.name for row in folder_of("lab").iterdir()) == ["20260103T000000Z-aaaa-chips.json", path.name]


def test_a_machine_that_cannot_take_the_file_is_an_error_with_a_way_out(top: Path) -> None:
    (top / "here").write_text("a file where the folder has to be")
    with pytest.raises(ApplyError) as caught:
        kept(top, RESULT)
    assert caught.value.code == "DIAG_WRITE" and "make room in" in str(caught.value.fix)
    assert record(top, "node1").kernels is not None, "the hosts have it"
