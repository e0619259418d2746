"""Our folder on a host, as the probe says it."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import statefolder, trees
from r1deploy.planning.recorded import State
from tests.onhost.making import put

COMMIT, OTHER = "a" * 40, "b" * 40


def test_git_head(tmp_path: Path) -> None:
    head = statefolder.git_head
    assert head(str(tmp_path)) is None, "no clone"
    put(tmp_path / ".git" / "HEAD", f"{COMMIT}\n")
    assert head(str(tmp_path)) == COMMIT, "detached"
    put(tmp_path / ".git" / "HEAD", "ref: refs/heads/a.b\n")
    assert head(str(tmp_path)) is None, "a branch without a commit"
    put(tmp_path / ".git" / "packed-refs", f"# pack-refs\n{OTHER} refs/heads/aXb\n{COMMIT} refs/heads/a.b\n^{OTHER}\n")
    assert head(str(tmp_path)) == COMMIT, "packed"
    put(tmp_path / ".git" / "refs" / "heads" / "a.b", f"{OTHER}\n")
    assert head(str(tmp_path)) == OTHER, "a loose ref is newer than a packed one"


def look(top: Path, *folders: str) -> State:
    request = {"state_dir": str(top), "folders": list(folders), "remote_tmp": ".r1deploy-no-such"}
    return State.model_validate(statefolder.look_state(request))


def test_no_folder_is_an_empty_one(tmp_path: Path) -> None:
    found = look(tmp_path / "none")
    assert (found.exists, found.trees, found.releases, found.active) == (False, {}, {}, None)
    assert found.free_gib > 0, "of the file system that it will lie on"


def test_trees_and_sources(tmp_path: Path) -> None:
    tree = tmp_path / "trees" / "flagscale-1"
    put(tree / "FlagScale" / ".git" / "HEAD", COMMIT)
    put(tree / "FlagScale" / "setup.py", "x")
    put(tree / "patched.json", json.dumps({"key": "k1"}))
    put(tmp_path / "trees" / "odd" / "patched.json", json.dumps({"key": 7}))
    (tmp_path / "trees" / ".hidden").mkdir()
    trees.store(str(tree / "manifest.json"), trees.record(str(tree), ["FlagScale"]))
    found = look(tmp_path)
    assert set(found.trees) == {"flagscale-1", "odd"} and found.trees["odd"] is None
    assert found.trees["flagscale-1"] is not None and found.trees["flagscale-1"].files == 1
    assert found.sources == {
        "trees/flagscale-1/FlagScale": COMMIT, "flagscale-1/patched": "k1", "odd/patched": None,
    }  # fmt: skip


def test_releases_with_their_configurations(tmp_path: Path) -> None:
    config = tmp_path / "releases" / "r1" / "config" / "c1"
    put(config / "env.sh", "x").chmod(0o640)
    put(config / "release.json", json.dumps({"port": 9010}))
    (tmp_path / "releases" / "r2").mkdir()
    found = statefolder.release_of(str(tmp_path / "releases" / "r1"))
    assert found["configs"]["c1"]["env.sh"] == [hashlib.sha256(b"x").hexdigest(), "0640"]
    assert found["records"] == {"c1": {"port": 9010}}
    assert set(look(tmp_path).releases) == {"r1", "r2"}


def test_scripts_folders_and_trust(tmp_path: Path) -> None:
    put(tmp_path / "bin" / "r1guest.py", "x")
    put(tmp_path / "trust" / "id_ed25519.pub", "ssh-ed25519 AAAA r1deploy:lab\n")
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    found = look(tmp_path, str(folder), "/no/such")
    assert found.bin == {"r1guest.py": hashlib.sha256(b"x").hexdigest()}
    assert found.folders == {str(folder): f"0700 {os.getuid()}", "/no/such": None}
    assert found.trust.public_key == "ssh-ed25519 AAAA r1deploy:lab"
    assert set(found.trust.files) == {"id_ed25519.pub"}


@pytest.mark.parametrize("text", ["No key", "ssh-ed25519 AAAA \x1b[2J", "", "ssh-ed25519"])
def test_a_public_key_that_is_none(tmp_path: Path, text: str) -> None:
    put(tmp_path / "trust" / "id_ed25519.pub", text)
    assert look(tmp_path).trust.public_key is None


def test_the_end_of_the_history(tmp_path: Path) -> None:
    rows = [{"verb": "serve", "number": number} for number in range(30)]
    put(tmp_path / "history.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + '{"verb": "cut')
    found = statefolder.last_lines(str(tmp_path / "history.jsonl"), 20)
    assert found == rows[11:], "the last 20 lines, less the one that is cut"


def test_what_is_active(tmp_path: Path) -> None:
    path = tmp_path / "active.json"
    assert statefolder.active_of(str(path)) is None
    put(path, json.dumps({"release": "r1"}))
    assert statefolder.active_of(str(path)) == {"release": "r1"}
    for damaged in ("", "[]", '{"release"'):
        put(path, damaged)
        with pytest.raises(ValueError, match="is damaged"):
            statefolder.active_of(str(path))
    path.unlink()
    path.symlink_to("/no/such")
    with pytest.raises(ValueError, match="is damaged"):
        statefolder.active_of(str(path))


def leftovers(top: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> list[str]:
    monkeypatch.setenv("SUDO_USER", pwd.getpwuid(os.getuid()).pw_name)
    found = statefolder.leftovers_of({"state_dir": str(top), "remote_tmp": "no-such", **more})
    return [path for path in found if path.startswith(str(top))]


def test_what_an_interrupted_run_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "incoming-1/x",
        "trees/a-1/tmp/x",
        "trees/a-1/incoming-2/x",
        "bin/r1guest.py.new",
        "trees/a-1/built.json",
    ):
        put(tmp_path / name, "x")
    found = [path[len(str(tmp_path)) + 1 :] for path in leftovers(tmp_path, monkeypatch)]
    assert found == ["incoming-1", "trees/a-1/tmp", "trees/a-1/incoming-2", "bin/r1guest.py.new"]


@pytest.mark.skipif(os.getuid() != 0, reason="to give a file away needs root")
def test_what_others_left_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "incoming-1" / "x", "x")
    os.chown(tmp_path / "incoming-1", 12345, 12345)
    assert leftovers(tmp_path, monkeypatch) == []
    assert statefolder.owner_of(str(tmp_path / "gone")) is None
