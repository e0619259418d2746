"""Work in processes of its own: forked, each with a deadline, so many at a time; what they tell comes back as rows.

A kernel that fails leaves its process worthless, one that hangs its compiler never comes back: so neither is ours.
Fork before anything touches a chip.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import Any, Callable, Mapping, NamedTuple, NoReturn, Sequence

Tell = Callable[[Mapping[str, Any]], None]
TICK = 0.1
CHUNK = 1 << 16
# Seconds until a process that was ended is gone. One that waits for a driver may never go: the others are not kept.
GOING = 5.0
# The exit code of a process that came to the end of its work: a library that gives up calls exit with another one.
CAME_TO_ITS_END = 86


class Task(NamedTuple):
    """Work that tells rows; after ``deadline`` seconds its process is ended."""

    name: str
    work: Callable[[Tell], None]
    deadline: float


class Listener:
    """What hears of the tasks. Both are called in the parent's process."""

    def row(self, task: Task, row: dict[str, Any]) -> None:
        """A task told a row."""

    def ended(self, task: Task, how: str, last: str) -> None:
        """A task is over: ``done``, ``failed`` (``last`` says why) or ``hung`` (its deadline passed)."""


class _Child:
    def __init__(self, task: Task) -> None:
        self.task, self.began, self.rest, self.failure = task, time.monotonic(), b"", ""
        self.ended = 0.0
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.reading)
            _be_the_child(task, writing)
        os.close(writing)
        os.set_blocking(self.reading, False)

    def lines(self) -> list[dict[str, Any]]:
        """The whole rows that have come; a line that is none is not taken."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = os.read(self.reading, CHUNK)
                if not data:
                    break
                self.rest += data
        whole, _, self.rest = self.rest.rpartition(b"\n")
        rows = [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]
        self.failure = next((row["failure"] for row in rows if "failure" in row), self.failure)
        return [row for row in rows if "failure" not in row]

    def end(self) -> None:
        """Nothing of it runs any more: it leads a session of its own."""
        self.ended = self.ended or time.monotonic()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def overdue(self) -> bool:
        return not self.ended and time.monotonic() - self.began > self.task.deadline

    def stuck(self) -> bool:
        """Whether it was ended, and should be gone by now."""
        return self.ended > 0 and time.monotonic() - self.ended > GOING


def _be_the_child(task: Task, writing: int) -> NoReturn:
    """Do the work and tell of it. The alarm ends us where nobody else is left to do so."""
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(task.deadline) + 5)
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)

    def tell(row: Mapping[str, Any]) -> None:
        data = json.dumps(row).encode() + b"\n"
        while data:
            data = data[os.write(writing, data) :]

    try:
        task.work(tell)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            tell({"failure": why(error)})
    os._exit(CAME_TO_ITS_END)


def why(error: BaseException) -> str:
    """One line that says what failed: the first of a chip's error, for a compiler's what it was raised from."""
    lines = [line.strip() for line in str(error).splitlines() if any(char.isalnum() for char in line)]
    if lines and lines[0].startswith("at ") and error.__cause__ is not None:
        lines = [why(error.__cause__)]
    chosen = (lines[-1] if lines[0].startswith("at ") else lines[0]) if lines else ""
    return f"{type(error).__name__}: {chosen}"[:400].rstrip(": ")


def run_all(tasks: Sequence[Task], jobs: int, listener: Listener) -> None:
    """Run the tasks, ``jobs`` at a time. When it returns or raises, no process of theirs is left that can be ended."""
    waiting = list(tasks)
    running: list[_Child] = []
    try:
        while waiting or running:
            while waiting and len(running) < max(1, jobs):
                running.append(_Child(waiting.pop(0)))
            select.select([child.reading for child in running], [], [], TICK)
            running = [child for child in running if not _is_over(child, listener)]
    finally:
        for child in running:
            child.end()
        for child in running:
            while not os.waitpid(child.pid, os.WNOHANG)[0] and not child.stuck():
                time.sleep(TICK / 10)
            os.close(child.reading)


def _is_over(child: _Child, listener: Listener) -> bool:
    hung = child.ended > 0
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    if pid or child.overdue():
        child.end()
    for row in child.lines():
        listener.row(child.task, row)
    if not pid and not child.stuck():
        return False
    os.close(child.reading)
    how, last = _ending(child, None if hung else status)
    listener.ended(child.task, how, last)
    return True


def _ending(child: _Child, status: int | None) -> tuple[str, str]:
    if status is None:
        return "hung", f"no end within {child.task.deadline:.0f} s"
    if child.failure:
        return "failed", child.failure
    if os.WIFSIGNALED(status):
        return "failed", f"ended by signal {signal.Signals(os.WTERMSIG(status)).name}"
    code = os.WEXITSTATUS(status)
    return ("done", "") if code == CAME_TO_ITS_END else ("failed", f"something in it ended it with exit code {code}")
