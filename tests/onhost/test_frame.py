"""The frame of what runs on hosts: parts fail by themselves within one time and one size; locks are nobody's lever."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import holder, private, statefolder
from r1deploy.onhost.gather import gather

Job = tuple[tuple[str, ...], Callable[[], Iterator[tuple[str, Any]]]]


def part(name: str, look: Callable[[], Any]) -> Job:
    return (name,), lambda: iter([(name, look())])


def test_each_part_fails_by_itself() -> None:
    """field.md 1.3: the other parts are there, and each that is not says why."""

    def half() -> Iterator[tuple[str, Any]]:
        yield "engine", {"ok": True}
        raise KeyError("Id")

    jobs = [
        part("memory", lambda: {"total_mib": 1}),
        part("lock", lambda: [][0]),
        (("engine", "image"), half),
        part("chips", lambda: (_ for _ in ()).throw(RecursionError("deep"))),
        part("bytes", lambda: b"no JSON"),
    ]
    found, problems = gather(jobs, 20, 1 << 20)
    assert found == {"memory": {"total_mib": 1}, "engine": {"ok": True}}
    assert {name: why.split(":")[0] for name, why in problems.items()} == {
        "lock": "IndexError",
        "image": "KeyError",
        "chips": "RecursionError",
        "bytes": "TypeError",
    }


def test_one_time_for_all() -> None:
    """field.md 1.3: a part that hangs costs the others nothing, and the whole no more than its time."""
    began = time.monotonic()
    found, problems = gather([part("memory", dict), part("service", lambda: time.sleep(60))], 1, 1 << 20)
    assert time.monotonic() - began < 5
    assert (found, problems) == ({"memory": {}}, {"service": "no answer in 1 s"})


def test_one_size_for_all() -> None:
    """field.md 1.6: a long part, and many that are long together."""
    long = part("state", lambda: "x" * 900_000)
    found, problems = gather([long, part("memory", dict)], 20, 1 << 20)
    assert found == {"memory": {}} and "more than it may say" in problems["state"]
    rows = [part(f"p{number}", lambda: "x" * 400_000) for number in range(9)]
    found, problems = gather(rows, 20, 1 << 20)
    assert len(found) <= 2 and len(found) + len(problems) == 9
    assert "the answers are longer than the probe may say" in problems.values()


def test_a_job_that_ends_the_process() -> None:
    found, problems = gather([part("state", lambda: os._exit(3))], 20, 1 << 20)
    assert (found, problems) == ({}, {"state": "the probe ended early"})


def test_files_that_vanish_while_they_are_read(tmp_path: Path) -> None:
    """field.md 1.4: gone is gone, and no exception."""
    code = """
import os, sys, time
end = time.time() + 3
while time.time() < end:
    for number in range(50):
        path = os.path.join(sys.argv[1], "f%d" % number)
        open(path + ".new", "w").close()
        os.replace(path + ".new", path)
        os.unlink(path)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as busy:
        looks = 0
        while busy.poll() is None:
            for digest, mode in statefolder.files_of(str(tmp_path)).values():
                assert len(mode) == 4 and (digest is None or len(digest) == 64)
            looks += 1
    assert looks > 20


def free(_: str) -> bool:
    return False


def test_a_lock_is_in_a_folder_that_only_its_owner_enters(tmp_path: Path) -> None:
    """field.md 2.1."""
    place = tmp_path / "run"
    place.mkdir(0o755)
    handle = private.locked(str(place / "lab.lock"), free)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "lab.lock").stat().st_mode) == 0o600
    assert private.locked(str(place / "lab.lock"), free) is None
    os.close(handle)


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo"])
def test_what_was_planted_there_before_is_replaced(tmp_path: Path, kind: str) -> None:
    """field.md 2.2: nothing is followed, truncated or waited for."""
    place, other = tmp_path / "run", tmp_path / "other"
    place.mkdir()
    other.write_text("ours")
    path = place / "lab.lock"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(other if kind == "link" else tmp_path / "nothing")
    handle = private.locked(str(path), free)
    assert handle is not None and stat.S_ISREG(path.lstat().st_mode)
    os.pwrite(handle, b"{}", 0)
    assert other.read_text() == "ours" and not (tmp_path / "nothing").exists()
    os.close(handle)


def test_a_file_that_others_could_open_is_held_by_nobody(tmp_path: Path) -> None:
    """field.md 2.1: as older versions made it, with somebody who has locked it; a living owner is one all the same."""
    place = tmp_path / "run"
    place.mkdir()
    path = place / "lab.lock"
    path.write_text("{}")
    path.chmod(0o644)
    with path.open() as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        assert private.locked(str(path), lambda _: True) is None
        handle = private.locked(str(path), holder.is_held)
        assert handle is not None and stat.S_IMODE(path.stat().st_mode) == 0o600
        os.close(handle)


@pytest.mark.skipif(os.getuid() != 0, reason="to give a folder away needs root")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    os.chown(place, 65534, 65534)
    with pytest.raises(OSError, match="it belongs to user 65534"):
        private.locked(str(place / "lab.lock"), free)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        private.locked(str(tmp_path / "link" / "lab.lock"), free)
