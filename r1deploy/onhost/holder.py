"""The cluster's lock, held on the head by this process as long as its owner is heard.

The kernel's lock on the file is the truth;
what stands in the file is for people. The owner sends a line a few seconds apart
on standard input (what it is doing); silence or the end of the connection frees
the lock, so that nobody has to clean up after a dead owner.

Prints marked lines of JSON. Exit codes: 0 freed by its owner, 3 held by somebody else,
4 the owner fell silent, 5 ended by ``release``, 6 the connection was interrupted.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import Any, Dict, Mapping

from .plainfiles import read_bytes
from .private import locked
from .saying import MARK

# An owner that was killed has processes, and somebody ends those within a moment: until then the lock is not free.
GRACE_SECONDS = 2.0
# What the file says.
Info = Dict[str, Any]


def start_of(pid: object) -> str | None:
    """Start tick of a process: with the pid it names one process for ever; None where there is none."""
    if type(pid) is not int:
        return None
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:
            return stream.read().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def read(path: str) -> Info | None:
    """What the lock file says, or None."""
    try:
        # A shorter text may have been written over a longer one: only the first document counts.
        info = json.JSONDecoder().raw_decode(read_bytes(path).decode("utf-8", "replace"))[0]
    except (OSError, ValueError, RecursionError):
        return None
    return info if isinstance(info, dict) else None


def is_held(path: str) -> bool:
    """Whether the process lives that a lock file names."""
    info = read(path) or {}
    return info.get("start") is not None and start_of(info.get("pid")) == info["start"]


def look_lock(path: str) -> Info | None:
    """What the cluster's lock says, where the process that holds it lives; else None.

    An owner that has ended does not run any more: who wants the lock next waits for the last of its processes.
    """
    info = read(path) if is_held(path) else None
    return None if info is None or info.get("ended") else info


def write(handle: int, info: Info) -> None:
    """Replace what the file says."""
    data = json.dumps(info).encode()
    os.pwrite(handle, data, 0)
    os.ftruncate(handle, len(data))


def take(path: str) -> int | None:
    """An open, locked lock file, or None where somebody else holds it; an owner that has ended is waited for."""
    until = time.monotonic() + GRACE_SECONDS + 1
    handle = locked(path, is_held)
    while handle is None and (read(path) or {}).get("ended") and time.monotonic() < until:
        time.sleep(0.1)
        handle = locked(path, is_held)
    return handle


def answer(document: object) -> None:
    """One line to the owner."""
    sys.stdout.write(MARK + json.dumps(document) + "\n")
    sys.stdout.flush()


class Held:
    """The lock in our hands, and what its owner says meanwhile."""

    def __init__(self, handle: int, info: Info, silence: float) -> None:
        self._handle, self._info, self._silence = handle, info, silence
        self._heard, self._said = time.monotonic(), b""
        self._code: int | None = None

    def end(self, code: int) -> None:
        """Why it ends; the first reason counts."""
        if self._code is None:
            self._code = code

    def keep(self) -> int:
        """Hold it while the owner is heard; the exit code."""
        while self._code is None:
            left = self._heard + self._silence - time.monotonic()
            # In short rounds: a signal that comes just before select() would be seen a whole silence later.
            if select.select([0], [], [], max(0.0, min(left, 1.0)))[0]:
                self._hear(os.read(0, 65536))
            elif left <= 0:
                self.end(4)
        return self._code

    def _hear(self, data: bytes) -> None:
        if not data:
            self._hear_no_more()
            return
        self._said = (self._said + data)[-4096:]
        self._heard = time.monotonic()
        lines = self._said.decode("utf-8", "replace").split("\n")
        self._info.update(beat=time.time(), doing=lines[-2] if len(lines) > 1 else None)
        write(self._handle, self._info)
        # One answer a line, so that the owner knows for sure that it still holds the lock.
        for _ in range(data.count(b"\n")):
            answer({"ok": True})

    def _hear_no_more(self) -> None:
        """The connection has ended: the owner is done, or its processes have a moment to end."""
        if self._said.endswith(b"done\n"):
            self.end(0)
            return
        write(self._handle, dict(self._info, ended=True))
        time.sleep(GRACE_SECONDS)
        self.end(6)


def hold(path: str, order: Mapping[str, Any]) -> int:
    """Take the lock and keep it while the owner is heard; the exit code."""
    handle = take(path)
    if handle is None:
        answer({"held": read(path)})
        return 3
    now = time.time()
    info = dict(order["info"], since=now, beat=now, pid=os.getpid(), start=start_of(os.getpid()))
    write(handle, info)
    held = Held(handle, info, order["silence"])
    signal.signal(signal.SIGTERM, lambda *_: held.end(5))
    answer({"ok": True})
    code = held.keep()
    os.unlink(path)
    return code


def release(path: str) -> int:
    """End the process that holds the lock, and nothing else."""
    info = read(path)
    if info is None or not is_held(path):
        answer({"released": None})
        return 0
    os.kill(info["pid"], signal.SIGTERM)
    until = time.monotonic() + 10
    while start_of(info["pid"]) == info["start"] and os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.1)
    answer({"released": info})
    return 0


def main(text: str) -> int:
    """Hold or release; returns the exit code. In: the order as JSON, ``op`` in it."""
    order = json.loads(text)
    return hold(order["path"], order) if order["op"] == "hold" else release(order["path"])
