"""Manifests of trees: what was built is still there, file by file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from r1deploy.onhost import trees
from r1deploy.planning.recorded import TreeState
from tests.onhost.making import put


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that was recorded as the module r1_tree does it."""
    put(tmp_path / "src" / "a.py", "print(1)\n")
    put(tmp_path / "src" / "deep" / "b.so", b"\x7fELF" * 10)
    put(tmp_path / "src" / ".git" / "HEAD", "x")
    put(tmp_path / "src" / "__pycache__" / "a.pyc", "x")
    put(tmp_path / "wheels" / "w.whl", "PK")
    (tmp_path / "src" / "link").symlink_to("a.py")
    manifest = trees.record(str(tmp_path), ["src", "wheels"])
    trees.store(str(tmp_path / "manifest.json"), manifest)
    trees.store(str(tmp_path / "stamps.json"), trees.stamps(str(tmp_path), manifest))
    return tmp_path


def state(root: Path) -> TreeState:
    return TreeState.model_validate(trees.state(str(root)))


def test_intact_tree(tree: Path) -> None:
    found = state(tree)
    assert (found.bad, found.bad_count, found.files) == ((), 0, 4)
    manifest = json.loads((tree / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["src/a.py", "src/deep/b.so", "src/link", "wheels/w.whl"]
    assert found.digest == manifest["digest"]


def test_an_intact_tree_is_not_read_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(trees, "_lines", read)
    assert state(tree).bad == ()


def test_altered_file_of_the_same_size(tree: Path) -> None:
    put(tree / "src" / "a.py", "print(2)\n")
    assert state(tree).bad == ("src/a.py",)


def test_altered_file_whose_time_was_put_back(tree: Path) -> None:
    path = tree / "src" / "a.py"
    before = path.stat()
    put(path, "print(2)\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state(tree).bad == ("src/a.py",)


def test_touched_but_the_same(tree: Path) -> None:
    os.utime(tree / "src" / "a.py", (1, 1))
    put(tree / "src" / "deep" / "b.so", b"\x7fELF" * 10)
    assert state(tree).bad == ()


def test_missing_file(tree: Path) -> None:
    (tree / "src" / "deep" / "b.so").unlink()
    assert state(tree).bad == ("src/deep/b.so",)


def test_link_to_elsewhere(tree: Path) -> None:
    (tree / "src" / "link").unlink()
    (tree / "src" / "link").symlink_to("deep/b.so")
    assert state(tree).bad == ("src/link",)


def test_files_that_appear_later_do_not_count(tree: Path) -> None:
    put(tree / "src" / "new.py", "x")
    put(tree / "src" / "__pycache__" / "b.pyc", "x")
    assert state(tree).bad == ()


def test_no_stamps_means_that_all_is_read(tree: Path) -> None:
    (tree / "stamps.json").unlink()
    assert state(tree).bad == ()
    put(tree / "wheels" / "w.whl", "XX")
    assert state(tree).bad == ("wheels/w.whl",)


def test_manifest_that_was_edited(tree: Path) -> None:
    manifest = json.loads((tree / "manifest.json").read_text())
    manifest["files"].pop("src/a.py")
    put(tree / "manifest.json", json.dumps(manifest))
    assert state(tree).bad == ("manifest.json",)


def test_many_bad_files_are_counted_and_some_are_named(tmp_path: Path) -> None:
    for number in range(8):
        put(tmp_path / "src" / str(number), "x")
    trees.store(str(tmp_path / "manifest.json"), trees.record(str(tmp_path), ["src"]))
    for number in range(7):
        put(tmp_path / "src" / str(number), "y")
    found = state(tmp_path)
    assert (len(found.bad), found.bad_count, found.files) == (5, 7, 8)


@pytest.mark.parametrize("text", [None, "", "{", "\0\0"])
def test_no_manifest_or_half_of_one_is_no_tree(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        put(tmp_path / "manifest.json", text)
    assert trees.state(str(tmp_path)) is None
