"""diag.json on a host: a part's summary takes the place of the former one, and the file is always whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import diagfile, statefolder


def written(path: Path, part: str, summary: dict[str, Any]) -> int:
    before = os.umask(0o077)  # sudo's may be as narrow
    try:
        return diagfile.main(json.dumps({"path": str(path), "part": part, "summary": summary}))
    finally:
        os.umask(before)


def test_other_parts_stay_and_the_same_part_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "diag.json"
    assert diagfile.summaries(str(path)) is None
    assert written(path, "chips", {"run": "a"}) == 0
    assert written(path, "network", {"run": "b"}) == 0
    assert written(path, "chips", {"run": "c"}) == 0
    assert diagfile.summaries(str(path)) == {"chips": {"run": "c"}, "network": {"run": "b"}}
    assert path.stat().st_mode & 0o7777 == 0o644
    assert os.listdir(tmp_path) == ["diag.json"]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"chips"', "[" * 100_000, '{"a": "' + "x" * diagfile.LIMIT + '"}'])
def test_what_is_not_ours_says_nothing_and_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "diag.json"
    path.write_text(text)
    assert diagfile.summaries(str(path)) is None
    assert written(path, "chips", {"run": "a"}) == 0
    assert diagfile.summaries(str(path)) == {"chips": {"run": "a"}}


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    """Whoever opened the file before the write has the former one to its end: another file got the name."""
    path = tmp_path / "diag.json"
    written(path, "chips", {"run": "a" * 500})
    with path.open() as stream:
        begun = stream.read(20)
        written(path, "chips", {"run": "b"})
        assert json.loads(begun + stream.read()) == {"chips": {"run": "a" * 500}}


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert written(tmp_path / "gone" / "diag.json", "chips", {}) == 1
    assert "No such file" in capsys.readouterr().err


def test_the_probe_says_it(tmp_path: Path) -> None:
    request = {"state_dir": str(tmp_path), "folders": [], "remote_tmp": ".r1deploy-no-such"}
    assert statefolder.look_state(request)["diag"] is None
    written(tmp_path / "diag.json", "kernels", {"run": "a"})
    assert statefolder.look_state(request)["diag"] == {"kernels": {"run": "a"}}
