"""The offer of a checkpoint to other hosts: real rsync on loopback addresses, each of which plays a host."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import offer

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("rsync"), reason="needs root and rsync")
PASSWORD = "password-of-the-run"
MINE, OTHER = "127.0.0.1", "127.0.0.9"


class Offered:
    """An offer in a thread of its own; it ends when its reader does, as over SSH."""

    def __init__(self, path: Path, **more: Any) -> None:
        self.gone, self.ready, self.row = threading.Event(), threading.Event(), {}
        request = {"path": str(path), "address": MINE, "allowed": [MINE], "password": PASSWORD, **more}
        self.thread = threading.Thread(target=self._run, args=(request,), daemon=True)
        self.thread.start()
        assert self.ready.wait(10)

    def _run(self, request: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            offer.serve(request, self._say)

    def _say(self, kind: str, **row: Any) -> None:
        if kind == "ready":
            self.row = row
            self.ready.set()
        if self.gone.is_set():
            raise BrokenPipeError

    @property
    def port(self) -> int:
        return int(self.row["port"])

    def connect(self, address: str = MINE) -> socket.socket:
        return socket.create_connection((MINE, self.port), 5, source_address=(address, 0))

    def fetch(self, target: Path, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        argv = ["rsync", "-r", "--timeout=20", f"rsync://r1deploy@{MINE}:{self.port}/weights/", f"{target}/"]
        env = {**os.environ, "RSYNC_PASSWORD": password}
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)

    def end(self) -> None:
        self.gone.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Callable[..., Offered]]]:
    """A folder to offer, and what offers it."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(offer, "PLACE", str(tmp_path / "run"))
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    made: list[Offered] = []

    def start(**more: Any) -> Offered:
        made.append(Offered(folder, **more))
        return made[-1]

    yield folder, start
    for row in made:
        row.end()
    assert daemons() == []


def daemons() -> list[str]:
    """The rsync processes that this one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, rest = path.read_text().split("(", 1)[1].rsplit(")", 1)
            if name == "rsync" and int(rest.split()[1]) == os.getpid() and rest.split()[0] != "Z":
                found.append(path.parent.name)
    return found


def seen() -> list[Path]:
    """What lies in the offer's place for others to see."""
    return list(Path(offer.PLACE).rglob("*"))


def until(what: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_only_the_password_opens_it_and_nothing_lies_anywhere(given: tuple[Path, Any], tmp_path: Path) -> None:
    """field.md 2.15: nobody else sees the password's folder, and it is gone with the offer."""
    offered = given[1]()
    assert "auth failed" in offered.fetch(tmp_path / "a", "wrong").stderr
    done = offered.fetch(tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "config.json").read_text() == "{}"
    assert not [path for path in seen() if path.is_file() and PASSWORD in path.read_text(errors="replace")]
    offered.end()
    assert seen() == []
    with pytest.raises(OSError):
        offered.connect()


def test_many_connections_are_few_processes_and_keep_nobody_out(given: tuple[Path, Any], tmp_path: Path) -> None:
    """field.md 2.13: 200 connections that never log in."""
    offered = given[1]()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(offered.connect())
        until(lambda: bool(daemons()))
        time.sleep(1)
        assert 0 < len(daemons()) <= offer.AT_ONCE
        done = offered.fetch(tmp_path / "b")
        assert done.returncode == 0, done.stderr
        assert len(daemons()) <= offer.AT_ONCE


def test_who_does_not_log_in_is_put_out_and_a_slow_transfer_is_not(
    given: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """field.md 2.13: a time limit, which is none for a transfer."""
    monkeypatch.setattr(offer, "LOGIN_SECONDS", 1)
    (given[0] / "shard").write_bytes(os.urandom(3_000_000))
    offered = given[1]()
    argv = ["rsync", "-r", "--bwlimit=800", f"rsync://r1deploy@{MINE}:{offered.port}/weights/", f"{tmp_path}/b/"]
    slow = subprocess.Popen(argv, env={**os.environ, "RSYNC_PASSWORD": PASSWORD})
    until(lambda: bool(daemons()))
    with offered.connect() as idle:
        until(lambda: len(daemons()) == 2)
        idle.settimeout(10)
        while idle.recv(1000):
            pass
    assert slow.wait(30) == 0
    assert (tmp_path / "b" / "shard").stat().st_size == 3_000_000


def test_other_addresses_start_nothing(given: tuple[Path, Any]) -> None:
    """field.md 2.13: bound to the hosts' addresses."""
    offered = given[1]()
    with offered.connect(OTHER) as refused:
        refused.settimeout(5)
        assert refused.recv(1) == b""
    assert daemons() == []


def test_hosts_by_name(given: tuple[Path, Any], tmp_path: Path) -> None:
    assert offer.addresses_of(["localhost", "127.0.0.3", "no-such-host.invalid"]) == {"127.0.0.1", "127.0.0.3"}
    assert given[1](allowed=["localhost"]).fetch(tmp_path / "b").returncode == 0


def test_the_end_of_an_offer_is_waited_for() -> None:
    """field.md 2.15: done means gone; what does not end is ended."""
    for script, killed in (("import time; time.sleep(0.5)", False), ("import time; time.sleep(60)", True)):
        child = subprocess.Popen([sys.executable, "-c", script])
        threading.Thread(target=child.wait, daemon=True).start()
        known = offer.identity(child.pid)
        assert known and known.split()[0] == str(child.pid)
        assert offer.wait_for_end(known, 2) is killed
        until(lambda: offer.identity(child.pid) != known)  # noqa: B023
    # Another process that has the number by now is left alone.
    assert offer.wait_for_end(f"{os.getpid()} 1", 0) is False
