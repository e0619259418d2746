"""The frame of the probe: parts that fail one by one, one time for all, one size for the whole answer.

The parts run in a process of their own, which is ended when the time is over: a file system that does not answer
would keep a thread, and with it the connection, for ever. Each part is written as soon as it is found.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import threading
import time
from typing import Any, Callable, Dict, Iterator, NoReturn, Sequence, Tuple

# Names of parts, and what yields a value for each of them, one by one.
Job = Tuple[Sequence[str], Callable[[], Iterator[Tuple[str, Any]]]]
Parts = Dict[str, Any]
Problems = Dict[str, str]


def gather(jobs: Sequence[Job], seconds: float, limit: int) -> tuple[Parts, Problems]:
    """(``{part: value}``, ``{part: why it is not there}``).

    In: ``(names, job)`` rows; a job yields ``(name, value)`` for its names, one by one. It may raise anything: then
    the rest of its names has that as the reason.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(jobs, writing, limit)
    os.close(writing)
    parts: Parts = {}
    problems: Problems = {}
    ending = _read(reading, time.monotonic() + seconds, limit, parts, problems)
    os.close(reading)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    # Not waited for: a process that hangs in the kernel would not even notice the signal.
    os.waitpid(child, os.WNOHANG)
    for name in (name for names, _ in jobs for name in names):
        if name not in parts and name not in problems:
            problems[name] = ending or f"no answer in {seconds:.0f} s"
    return parts, problems


def _read(reading: int, until: float, limit: int, parts: Parts, problems: Problems) -> str | None:
    """Take the parts as they come; why there are no more, where that is not the time."""
    data = b""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            return None
        block = os.read(reading, 1 << 16)
        if not block:
            return "the probe ended early"
        data += block
        limit -= len(block)
        if limit < 0:
            return "the answers are longer than the probe may say"
        *lines, data = data.split(b"\n")
        for line in lines:
            name, value, problem = json.loads(line.decode("ascii"))
            if problem is None:
                parts[name] = value
            else:
                problems[name] = problem


def _work(jobs: Sequence[Job], writing: int, limit: int) -> NoReturn:
    """The child: all jobs at once, each in a thread. It does not return."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            # The connection ends with our parent, whatever becomes of us.
            os.dup2(null, handle)
        answers = _Answers(writing, limit)
        threads = [threading.Thread(target=_do, args=(names, job, answers)) for names, job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = 0
    finally:
        os._exit(code)


class _Answers:
    """The lines that the parent reads, one a part."""

    def __init__(self, writing: int, limit: int) -> None:
        self._writing, self._limit, self._lock = writing, limit, threading.Lock()

    def write(self, name: str, value: Any, problem: str | None) -> None:
        """One part: its value, or why it is not there."""
        line = _line(name, value, problem)
        if len(line) > self._limit // 2:
            line = _line(name, None, f"{len(line)} bytes are more than it may say")
        with self._lock:
            while line:
                line = line[os.write(self._writing, line) :]


def _line(name: str, value: Any, problem: str | None) -> bytes:
    return json.dumps([name, value, problem]).encode("ascii") + b"\n"


def _do(names: Sequence[str], job: Callable[[], Iterator[tuple[str, Any]]], answers: _Answers) -> None:
    """One job: each of its parts, then the reason for those that are not there."""
    left = list(names)
    try:
        for name, value in job():
            answers.write(name, whole(value), None)
            left.remove(name)
        why = "nothing was said"
    except Exception as error:  # any: the other parts have nothing to do with it
        why = f"{type(error).__name__}: {error}"
    for name in left:
        answers.write(name, None, whole(why[:300]))


def whole(value: Any) -> Any:
    """A value of JSON's types without halves of characters, as names of files may hold them."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {whole(key): whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(item) for item in value]
    return value
