"""Run commands, all at once, and say what they cost; a program of its own, so that only their processes count.

    python -I -S runner.py < ORDER

In: {"commands": [{"argv", "stdin", "stdout"}], "folder", "seconds", "also", "whole"}.
Out: {"wall", "cpu", "memory_mib", "codes"}, with "whole" also "memory_all_mib". ``wall`` is in seconds. ``cpu`` are the
seconds of all processes that the commands started, those too which went into the background (OpenSSH's shared
connections), and what the processes ``also``, which were there before, took meanwhile. ``memory_mib`` is the most that
one process had; ``memory_all_mib`` what all had together, what they share counted once. What is left in the background
is ended: the next round starts cold. After so many seconds the commands are killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TICKS = os.sysconf("SC_CLK_TCK")
END_SECONDS = 5
SAMPLE_SECONDS = 0.1


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Run the order; returns the answer."""
    # Whoever loses its parent becomes our child: nothing of the commands is missed, and nothing else is taken for it.
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
    # The benchmark that was killed cannot tell us.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    before = sum(map(cpu_of, order["also"]))
    sampler = Sampler() if order["whole"] else None
    started = time.monotonic()
    waiting = {start(command, order["folder"]): index for index, command in enumerate(order["commands"])}
    codes: list[int | None] = [None] * len(waiting)
    signal.signal(signal.SIGALRM, lambda *_: end(list(waiting), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, order["seconds"])
    cpu = memory = 0.0
    while waiting:
        pid, status, used = os.wait4(-1, 0)
        cpu, memory = cpu + used.ru_utime + used.ru_stime, max(memory, used.ru_maxrss / 1024)
        if pid in waiting:
            codes[waiting.pop(pid)] = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    signal.setitimer(signal.ITIMER_REAL, 0)
    most = sampler.stop() if sampler else None
    cpu += sum(map(cpu_of, order["also"])) - before + end_all()
    answer = {"wall": wall, "cpu": cpu, "memory_mib": memory, "codes": codes}
    return answer if most is None else answer | {"memory_all_mib": most}


def start(command: dict[str, Any], folder: str) -> int:
    """Start one command with its files; returns its pid."""
    with open(command["stdin"], "rb") as source, open(command["stdout"], "wb") as target:
        process = subprocess.Popen(command["argv"], cwd=folder, stdin=source, stdout=target, stderr=target)
    # os.wait4 takes its end, which Popen must not look for.
    process.returncode = 0
    return process.pid


def stopped(*_: object) -> None:
    """The benchmark is interrupted: nothing of it goes on."""
    end_all()
    os._exit(1)


def cpu_of(pid: int) -> float:
    """Seconds that a process that runs has taken, with its children that ended; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def children(pid: int | str = "self") -> list[int]:
    """Pids of a process's children, ours by default; none where it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def below(pid: int | str = "self") -> list[int]:
    """Pids of all processes below one."""
    found = children(pid)
    return [*found, *(lower for upper in found for lower in below(upper))]


def memory_of(pid: int) -> float:
    """A process's part of the memory, in MiB; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                return int(row.split()[1]) / 1024
    return 0.0


class Sampler:
    """Looks at the memory of all processes below this one, until it is stopped."""

    def __init__(self) -> None:
        self.most = 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Until the end."""
        while not self.ended.wait(SAMPLE_SECONDS):
            self.most = max(self.most, sum(map(memory_of, below())))

    def stop(self) -> float:
        """The most there was, in MiB."""
        self.ended.set()
        self.thread.join()
        return self.most


def end(pids: list[int], number: int) -> None:
    """Signal processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_all() -> float:
    """End what is left in the background, level by level; returns the CPU seconds that it took."""
    cpu, until = 0.0, time.monotonic() + END_SECONDS
    while True:
        polite = time.monotonic() < until
        end(children(), signal.SIGTERM if polite else signal.SIGKILL)
        try:
            pid, _, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return cpu
        if pid:
            cpu += used.ru_utime + used.ru_stime
        else:
            time.sleep(0.01)


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
