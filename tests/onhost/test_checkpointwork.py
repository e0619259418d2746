"""The orders of ``r1deploy weights``: one answer each, whatever happens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import checkpointwork, saying
from r1deploy.onhost.saying import Refusal
from tests.onhost.making import put, put_checkpoint, shard

NAMES = ["a.safetensors", "b.safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put_checkpoint(tmp_path / "w", NAMES)
    return tmp_path / "w"


def work(capsys: pytest.CaptureFixture[str], op: str, **order: Any) -> tuple[int, dict[str, Any]]:
    """(exit code, the last row)."""
    code = checkpointwork.main(json.dumps({"op": op, **order}))
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(saying.MARK) for line in lines)
    return code, json.loads(lines[-1][len(saying.MARK) :])


def verify(capsys: pytest.CaptureFixture[str], folder: Path, **more: Any) -> dict[str, Any]:
    order = {"path": str(folder), "record": f"{folder}.record", "hash": False, **more}
    code, row = work(capsys, "verify", **order)
    assert (code, row["kind"]) == (0, "done")
    return row


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*")}


def test_look(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, row = work(capsys, "look", path=str(folder), client=str(folder))
    assert (code, row["weights"]["shards"], row["client"]) == (0, 2, True)
    assert row["sizes"] == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert row["free"] > 0
    assert work(capsys, "look", path=str(folder / "none"))[1]["client"] is None


def test_a_mark_is_seen_where_the_folder_is_shared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = work(capsys, "mark", path=str(folder / "not" / "yet"), token="t", content="c")[1]
    assert left["marked"] == str(folder / ".r1deploy-t")
    assert work(capsys, "seen", marked=left["marked"], content="c")[1]["seen"] is True
    assert work(capsys, "seen", marked=left["marked"], content="other")[1]["seen"] is False
    again = work(capsys, "mark", path=str(folder), token="t", content="c")[1]
    assert again["marked"] is None and "exists" in again["why"]
    for _ in range(2):
        assert work(capsys, "unmark", marked=left["marked"])[0] == 0
    assert work(capsys, "seen", marked=left["marked"], content="c")[1]["seen"] is False


def test_headers_only_where_no_sums_are_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = verify(capsys, folder)
    assert (row["sums"], row["source"], row["weights"]["shards"]) == ({}, None, 2)
    assert verify(capsys, folder, hash=True)["sums"] == digests(folder)


def test_against_the_sums_that_are_ordered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {**digests(folder), "b.safetensors": "0" * 64, "gone.json": "1" * 64, "README.md": "2" * 64}
    del wanted["a.safetensors"]
    put(folder / "README.md", "it counts, since it is listed")
    row = verify(capsys, folder, sums=wanted, source="theirs")
    assert (row["differ"], row["absent"], row["unlisted"]) == (
        ["README.md", "b.safetensors"],
        ["gone.json"],
        ["a.safetensors"],
    )
    assert (row["source"], row["hashed"]) == ("theirs", sum(path.stat().st_size for path in folder.iterdir()))


def test_against_the_sums_that_lie_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sums = digests(folder)
    put(folder / "SHA256SUMS", "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    row = verify(capsys, folder)
    assert (row["source"], row["differ"], row["absent"], row["unlisted"]) == ("SHA256SUMS", [], [], [])
    put(folder / "SHA256SUMS", "no sums\n")
    order = {"path": str(folder), "record": f"{folder}.record", "hash": False}
    code, row = work(capsys, "verify", **order)
    assert (code, row["code"]) == (1, "MANIFEST_INVALID") and "line 1" in row["message"]


def test_what_is_broken_is_not_hashed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(folder / "b.safetensors", cut=1, tensor="layer1")
    row = verify(capsys, folder, hash=True)
    assert (row["weights"]["bad"], row["sums"]) == (["b.safetensors"], {}) and "source" not in row


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refusal("HUB_TLS", "why", [str(number) for number in range(20)]), "HUB_TLS"),
        (OSError(28, "No space left on device"), "DISK_FULL"),
        (OSError(122, "Disk quota exceeded"), "DISK_FULL"),
        (PermissionError(13, "Permission denied"), "STEP_FAILED"),
    ],
)
def test_what_goes_wrong_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def look(_: object) -> None:
        raise error

    monkeypatch.setitem(checkpointwork.OPS, "look", look)
    status, row = work(capsys, "look")
    assert (status, row["kind"], row["code"], row["message"]) == (1, "error", code, str(error))
    assert row["tail"] == [str(number) for number in range(12, 20)] * (code == "HUB_TLS")
