"""What the scripts around a stream of files answer, and what lists may say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from r1deploy.fanout.filerows import Prepared, file_row_of
from r1deploy.onhost.filelist import bits_of, entries_of, numbers_in, pieces_of
from r1deploy.onhost.saying import Refusal

FILE = ["a/b", "file", 5, "0" * 64, 0o644, 7]


def test_answers_are_read_strictly() -> None:
    row = {"kind": "done", "lacks": "01", "starts": {"0": 3}, "files": 1, "bytes": 2}
    assert file_row_of("prepare", row) == Prepared(lacks="01", starts={"0": 3}, files=1, bytes=2)
    bad: Sequence[object] = (
        None, {"kind": []}, {**row, "lacks": "0"}, {**row, "starts": {"x": 1}}, {**row, "starts": {"1": -1}},
        {**row, "files": "1"}, {**row, "lacks": "00" * 40_000}, {"kind": "done"},
    )  # fmt: skip
    assert [file_row_of("prepare", line) for line in bad] == [None] * len(bad)


@pytest.mark.parametrize(
    "row",
    [
        FILE[:-1],
        [*FILE, 1],
        ["a", "file", -1, "0" * 64, 0o644, 7],
        ["a", "file", True, "0" * 64, 0o644, 7],
        ["a", "file", 5, "0" * 63, 0o644, 7],
        ["a", "file", 5, "0" * 64, 0o4755, 7],
        ["a", "folder", "755"],
        ["a", "folder"],
        ["a", "link", ""],
        ["a", "link", "x\0"],
        ["a", "fifo", 1],
        ["a"],
        [7, "folder", 0o755],
        None,
        "ab",
        {},
    ],
)
def test_a_row_of_another_shape_is_refused(row: Any) -> None:
    with pytest.raises(Refusal, match="the list of files is wrong"):
        entries_of([row])


def test_two_rows_of_one_path_are_refused() -> None:
    with pytest.raises(Refusal, match="twice"):
        entries_of([FILE, ["a/b", "link", "c"]])


def test_rows_are_read_and_written_alike() -> None:
    rows = [["a", "folder", 0o750], FILE, ["a/c", "link", "../x"]]
    assert [entry.row() for entry in entries_of(rows)] == rows


def test_a_set_of_rows_is_a_text() -> None:
    for numbers in (set[int](), {0}, {7, 8}, {3, 999}):
        assert numbers_in(bits_of(numbers, 1000), 1000) == numbers


@pytest.mark.parametrize(("lacks", "starts"), [("01", {}), ("02", {"1": 5}), ("02", {"1": -1})])
def test_what_is_no_file_or_goes_on_behind_its_end_is_no_stream(lacks: str, starts: dict[str, int]) -> None:
    with pytest.raises(Refusal, match="nothing of it can be sent"):
        pieces_of({"files": [["a", "folder", 0o755], FILE], "lacks": lacks, "starts": starts})
