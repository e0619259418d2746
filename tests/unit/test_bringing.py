"""Files to many hosts, which are processes here on loopback: each has a folder of its own for what it has."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1deploy.errors import ApplyError, R1Error
from r1deploy.onhost import trees
from r1deploy.onhost.destination import alone
from r1deploy.onhost.filelist import Entry
from tests.filehosts import MIB, SHARD, TREE, WEIGHTS, Cluster, checkpoint, grow, put


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    with contextlib.ExitStack() as stack:

        def make(count: int) -> Cluster:
            return stack.enter_context(contextlib.closing(Cluster(tmp_path, count)))

        yield make


def seen(top: Path) -> dict[str, Any]:
    """All that is below a folder: kind, mode, content; times of files."""
    rows: dict[str, Any] = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        moment = info.st_mtime_ns if stat.S_ISREG(info.st_mode) else 0
        rows[str(path.relative_to(top))] = (stat.filemode(info.st_mode), content, moment)
    return {name: row for name, row in rows.items() if ".git" not in name and "__pycache__" not in name}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_tree_arrives_as_it_is_and_the_controller_sends_orders_only(made: Any, count: int) -> None:
    cluster = made(count)
    top = grow(cluster)
    assert cluster.bring(TREE) == {host.name: None for host in cluster.targets}, cluster.said
    for host in cluster.targets:
        there = cluster.top(host.name) / "trees" / "gems"
        assert seen(there) == seen(top)
        state = trees.state(str(there))
        assert state and not state["bad"] and state["digest"] == trees.load_manifest(str(top))["digest"]  # type: ignore[index]
        assert not list((cluster.top(host.name) / "list").iterdir()), "the list is removed"
    sessions = len(cluster.sessions)
    assert cluster.sent < sessions * (1 << 17), "scripts and orders"


def test_what_is_right_is_not_sent_and_without_a_lack_there_is_no_stream(made: Any) -> None:
    cluster = made(2)
    grow(cluster)
    assert set(cluster.bring(TREE).values()) == {None}
    whole = cluster.streams()
    cluster.sessions.clear()
    stays = cluster.top("node1") / "trees/gems/FlagGems/src/m1/f1.py"
    before = stays.stat().st_ino
    assert set(cluster.bring(TREE).values()) == {None}
    assert cluster.streams() == []
    # One host lacks one file, has one wrong, one too many, a folder for a file, a link for a folder.
    top = cluster.top("node2") / "trees/gems/FlagGems"
    (top / "build.sh").unlink()
    (top / "src/m2/f2.py").write_bytes(b"x" * (top / "src/m2/f2.py").stat().st_size)
    put(top / "src/more.py", b"x")
    (top / "src/m3/f3.py").unlink()
    put(top / "src/m3/f3.py/deep", b"x")
    (top / "empty").rmdir()
    (top / "empty").symlink_to("/etc")
    (top / "src/m4/f4.py").chmod(0o600)
    cluster.sessions.clear()
    assert set(cluster.bring(TREE).values()) == {None}
    (sent,) = cluster.streams()
    assert 0 < sent < 40_000 < whole[0]
    assert seen(cluster.top("node2") / "trees") == seen(cluster.top("node0") / "trees")
    assert stays.stat().st_ino == before, "not written again"


def test_weights_arrive_and_their_sums_are_remembered(made: Any) -> None:
    cluster = made(2)
    checkpoint(cluster)
    stays = cluster.top("node1") / "weights/mine.txt"
    put(stays, b"of the site")
    assert set(cluster.bring(WEIGHTS).values()) == {None}, cluster.said
    assert stays.read_bytes() == b"of the site"
    for host in cluster.targets:
        top = cluster.top(host.name)
        assert (top / "weights/sub/model-2.safetensors").read_bytes() == SHARD[::-1]
        link = top / "weights/tokenizer.json"
        assert link.read_bytes() == b"blob" and not link.is_symlink(), "a link out of the folder is the file"
        assert not (top / "weights/.cache").exists()
        record = json.loads((top / "list/record.json").read_text())
        assert record["files"]["model-1.safetensors"][-1] == hashlib.sha256(SHARD).hexdigest()


SHARDS = {"model-1.safetensors": SHARD, "sub/model-2.safetensors": SHARD[::-1]}


def lacks(top: Path) -> dict[str, int]:
    """Bytes that a host lacks of each shard; what it has of a part counts."""
    left = {name: len(data) for name, data in SHARDS.items() if not (top / name).exists()}
    for name in left:
        entry = Entry(name, "file", sha256=hashlib.sha256(SHARDS[name]).hexdigest())
        part = top / Path(name).parent / entry.partial
        left[name] -= part.stat().st_size if part.exists() else 0
    return left


def test_what_an_interrupted_run_left_is_taken_up_inside_of_a_file(made: Any) -> None:
    cluster = made(2)
    checkpoint(cluster)
    first, second = (cluster.top(host.name) / "weights" for host in cluster.targets)
    part = Entry("sub/model-2.safetensors", "file", sha256=hashlib.sha256(SHARD[::-1]).hexdigest()).partial
    for top, size in ((first, len(SHARD)), (second, 5 * MIB)):
        put(top / "model-1.safetensors", SHARD)
        put(top / "sub" / part, SHARD[::-1][:size])
        put(top / ".r1part-of-another", b"old")
    assert set(cluster.bring(WEIGHTS).values()) == {None}, cluster.said
    assert cluster.streams() == [len(SHARD) - 5 * MIB + len(b"{}") + len(b"blob")]
    for top in (first, second):
        assert {name: (top / name).read_bytes() for name in SHARDS} == SHARDS
        assert not list(top.rglob(".r1part-*"))


def test_a_part_that_is_wrong_costs_one_more_round(made: Any) -> None:
    cluster = made(1)
    checkpoint(cluster)
    top = cluster.top("node1") / "weights"
    part = Entry("model-1.safetensors", "file", sha256=hashlib.sha256(SHARD).hexdigest()).partial
    put(top / part, bytes(MIB))
    assert set(cluster.bring(WEIGHTS).values()) == {None}, cluster.said
    assert cluster.streams()[1:] == [len(SHARD)]
    assert (top / "model-1.safetensors").read_bytes() == SHARD


def test_killed_in_the_middle_only_what_lacks_is_sent(made: Any) -> None:
    cluster = made(2)
    checkpoint(cluster)

    def killed() -> None:
        """The end of all, as soon as one host has a little."""
        top, left = cluster.top("node2") / "weights", 2 * len(SHARD)
        while not over.is_set() and left > 2 * len(SHARD) - MIB:
            with contextlib.suppress(FileNotFoundError):  # it got its name at this moment
                left = sum(lacks(top).values())
        for *_, session in list(cluster.sessions):
            session.process.kill()

    over = threading.Event()
    thread = threading.Thread(target=killed)
    thread.start()
    with contextlib.suppress(R1Error):
        cluster.bring(WEIGHTS)
    over.set()
    thread.join()
    left = [lacks(cluster.top(host.name) / "weights") for host in cluster.targets]
    cluster.sessions.clear()
    assert set(cluster.bring(WEIGHTS).values()) == {None}, cluster.said
    most = sum(max(row.get(name, 0) for row in left) for name in SHARDS)
    assert most <= sum(cluster.streams()) <= most + 100
    for host in cluster.targets:
        assert {name: (cluster.top(host.name) / "weights" / name).read_bytes() for name in SHARDS} == SHARDS


def test_a_host_that_goes_away_is_named_and_the_others_have_all(made: Any) -> None:
    cluster = made(3)
    checkpoint(cluster)

    def progress(host: str, done: int, _: int) -> None:
        if host == "node2":
            for name, module, order, session in cluster.sessions:
                if name == "node2" and module == "relay" and "sha256" in order["sink"]:
                    session.process.kill()

    ended = cluster.bring(WEIGHTS, progress)
    assert ended == {"node1": None, "node2": "STEP_FAILED", "node3": None}
    assert [line for line in cluster.said if line.startswith("skipped node2")]


def test_wrong_bytes_get_no_name_and_are_sent_once_more(made: Any) -> None:
    cluster = made(2)
    top = checkpoint(cluster)
    changed = []

    def change(name: str, order: Any) -> Any:
        """The source's disk changes a byte after its list was made, and has it back in the second round."""
        if order["op"] == "give" and "files" not in order:
            data = bytearray(SHARD)
            data[7] ^= not changed
            changed.append(name)
            (top / "model-1.safetensors").write_bytes(data)
        return order

    cluster.change = change
    assert set(cluster.bring(WEIGHTS).values()) == {None}, cluster.said
    assert len(changed) == 2 and [line for line in cluster.said if "once more, 1 file" in line]
    assert cluster.streams()[1] == len(SHARD)
    for host in cluster.targets:
        assert (cluster.top(host.name) / "weights/model-1.safetensors").read_bytes() == SHARD


def test_wrong_bytes_that_stay_wrong_are_named_and_nowhere_have_the_name(made: Any) -> None:
    cluster = made(2)
    top = checkpoint(cluster)

    def change(_: str, order: Any) -> Any:
        if order["op"] == "give" and "files" not in order:
            (top / "model-1.safetensors").write_bytes(bytes(len(SHARD)))
        return order

    cluster.change = change
    assert set(cluster.bring(WEIGHTS).values()) == {"WEIGHTS_DAMAGED"}
    for host in cluster.targets:
        assert not (cluster.top(host.name) / "weights/model-1.safetensors").exists()
        assert (cluster.top(host.name) / "weights/config.json").read_bytes() == b"{}"


def test_the_first_one_that_does_not_reach_the_source_gets_it_from_the_others(made: Any) -> None:
    cluster = made(3)
    checkpoint(cluster)

    def change(name: str, order: Any) -> Any:
        if order["op"] == "give":
            return {**order, "allowed": [row for row in order["allowed"] if row != cluster.targets[0].address]}
        return order

    cluster.change = change
    assert set(cluster.bring(WEIGHTS).values()) == {None}, cluster.said


def test_a_source_that_loses_a_file_ends_it_with_its_name(made: Any) -> None:
    cluster = made(2)
    top = checkpoint(cluster)

    def change(_: str, order: Any) -> Any:
        if order["op"] == "give" and "files" not in order:
            (top / "model-1.safetensors").unlink()
        return order

    cluster.change = change
    with pytest.raises(ApplyError, match=r"node0: weights: .*model-1\.safetensors: No such file"):
        cluster.bring(WEIGHTS)


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", "a//b", "./a", "", "a\0b", "a/" * 200 + "b"])
def test_a_path_that_wants_out_is_refused(made: Any, path: str) -> None:
    cluster = made(1)
    checkpoint(cluster)
    before = seen(cluster.top("node1"))

    def change(_: str, order: Any) -> Any:
        if order["op"] == "prepare":
            data = json.dumps([[path, "file", 1, "0" * 64, 0o644, 0]]).encode()
            Path(order["list"]).write_bytes(data)
            return {**order, "sha256": hashlib.sha256(data).hexdigest()}
        return order

    cluster.change = change
    assert cluster.bring(WEIGHTS) == {"node1": "STEP_FAILED"}
    assert "the list of files is wrong" in cluster.said[-1]
    assert {name for name in seen(cluster.top("node1")) if "list" not in name} - {"weights"} <= set(before)


def test_a_link_on_the_way_is_not_followed(made: Any, tmp_path: Path) -> None:
    cluster = made(1)
    checkpoint(cluster)
    (tmp_path / "outside").mkdir()
    (cluster.top("node1") / "weights").mkdir()
    (cluster.top("node1") / "weights/sub").symlink_to(tmp_path / "outside")
    assert cluster.bring(WEIGHTS) == {"node1": "STEP_FAILED"}
    assert not list((tmp_path / "outside").iterdir())
    assert not (cluster.top("node1") / "list/weights.json").exists()


def test_no_link_of_a_tree_is_followed_when_others_are_removed(made: Any, tmp_path: Path) -> None:
    cluster = made(2)
    grow(cluster)
    put(tmp_path / "outside/mine", b"mine")
    one, two = (cluster.top(host.name) / "trees" for host in cluster.targets)
    (one / "gems").mkdir(parents=True)
    (one / "gems/FlagGems").symlink_to(tmp_path / "outside")
    two.mkdir()
    (two / "gems").symlink_to(tmp_path / "outside")
    assert cluster.bring(TREE) == {"node1": None, "node2": "STEP_FAILED"}
    assert seen(one) == seen(cluster.top("node0") / "trees")
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["mine"]


def test_a_long_file_of_zeros_goes_in_bounded_memory(made: Any) -> None:
    cluster = made(2)
    top = cluster.top("node0") / "weights"
    top.mkdir()
    size = 100 * MIB
    with (top / "model-1.safetensors").open("wb") as stream:
        stream.truncate(size)
    peaks: list[int] = []

    def progress(host: str, done: int, _: int) -> None:
        for name, module, _order, session in cluster.sessions:
            if module == "relay" and name != "node0":
                with contextlib.suppress(OSError, StopIteration):
                    text = Path(f"/proc/{session.process.pid}/status").read_text()
                    peaks.append(int(next(row for row in text.splitlines() if row.startswith("VmHWM")).split()[1]))

    assert set(cluster.bring(WEIGHTS, progress).values()) == {None}
    assert (cluster.top("node2") / "weights/model-1.safetensors").stat().st_size == size
    assert max(peaks) < 120 * 1024, "kB"


@pytest.mark.long
def test_a_file_of_four_gib_goes_on_near_its_end(made: Any) -> None:
    cluster = made(2)
    top, size, part = cluster.top("node0") / "weights", (4 << 30) + 5, (4 << 30) - 3 * MIB
    top.mkdir()
    with (top / "model-1.safetensors").open("wb") as stream:
        stream.truncate(size)
    digest = hashlib.sha256()
    for _ in range(1 << 10):
        digest.update(bytes(4 * MIB))
    digest.update(bytes(5))
    name = Entry("model-1.safetensors", "file", sha256=digest.hexdigest()).partial
    for host in cluster.targets:
        there = cluster.top(host.name) / "weights"
        there.mkdir()
        with (there / name).open("wb") as stream:
            stream.truncate(part)
    assert set(cluster.bring(WEIGHTS).values()) == {None}, cluster.said
    assert cluster.streams() == [size - part]
    for host in cluster.targets:
        info = (cluster.top(host.name) / "weights/model-1.safetensors").stat()
        assert info.st_size == size and info.st_blocks * 512 < 100 * MIB, "what was there is not written again"


def test_who_writes_to_the_same_checkpoint_keeps_others_away(made: Any) -> None:
    cluster = made(2)
    checkpoint(cluster)
    top = cluster.top("node1")
    with alone(str(top / "weights"), str(top / "list")):
        assert cluster.bring(WEIGHTS) == {"node1": "WEIGHTS_BUSY", "node2": None}
    assert not (top / "weights").exists()
