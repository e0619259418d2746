"""Files of a host are data: plain ones only, never waited for, never too much of them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from r1deploy.onhost import plainfiles


def test_a_fifo_a_folder_and_a_name_that_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), str(tmp_path), "/dev/null", str(tmp_path / "none"), "a\0b"):
        with pytest.raises(OSError):
            plainfiles.open_plain(path)
        assert plainfiles.read_text(path) is None
        assert plainfiles.read_json(path) is None
        assert plainfiles.read_sha256(path) is None
        assert plainfiles.read_end(path) == []


def test_a_limit_is_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("12345")
    assert plainfiles.read_bytes(str(tmp_path / "f"), 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        plainfiles.read_bytes(str(tmp_path / "f"), 4)
    assert plainfiles.read_text(str(tmp_path / "f"), 4) is None


def test_text_is_stripped_and_has_no_broken_characters(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b" a\xff \n")
    assert plainfiles.read_text(str(tmp_path / "f")) == "a�"


def test_the_end_of_a_long_file_is_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("".join(f"line {number}\n" for number in range(100)))
    assert plainfiles.read_end(str(tmp_path / "f"), 20) == ["line 98", "line 99"]
    assert len(plainfiles.read_end(str(tmp_path / "f"))) == 100


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000])
def test_what_is_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    assert plainfiles.read_json(str(tmp_path / "f")) is None
    with pytest.raises(ValueError):
        plainfiles.parse(text)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    assert plainfiles.read_sha256(str(tmp_path / "f")) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


@pytest.mark.parametrize(
    ("name", "good"),
    [("flagscale-0a1", True), (".hidden", False), ("a/b", False), ("a\n", False), ("é", False), ("a" * 129, False),
     (7, False)],
)  # fmt: skip
def test_names(name: object, good: bool) -> None:
    assert plainfiles.is_name(name) is good


def test_paths_with_names_as_ours() -> None:
    assert plainfiles.own_names(["/x/b", "/x/-a", "/x/a", "/x/{{ a }}"]) == ["/x/a", "/x/b"]
