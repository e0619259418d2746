"""A program of evalscope's environment: its order by standard input, its lines as they come; it ends with us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from r1deploy.settings import redact
from r1deploy.signals import later
from r1deploy.voice import Say

POLITE_SECONDS = 5
# The kernel ends the program where we are killed, in any way (PR_SET_PDEATHSIG).
LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
TICK_SECONDS = 0.5
# Of what it said, for a message.
LINES, LAST_BYTES = 8, 20_000


@dataclass(frozen=True)
class Program:
    """What to run. ``log`` takes what it says on standard error; ``environment`` is added to ours."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path


def run(program: Program, order: str, line: Say, tick: Callable[[], None]) -> int:
    """Run a program to its end; its exit code. In: what it reads; what takes its lines; what is called meanwhile.

    However this is left, the program and all that it started have ended. Raises OSError.
    """
    with program.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *program.argv],
            env={**os.environ, **program.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            assert process.stdin and process.stdout
            reader = threading.Thread(target=_pass_on, args=(process.stdout, line), daemon=True)
            reader.start()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(order.encode())
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            while process.poll() is None:
                tick()
                time.sleep(TICK_SECONDS)
        finally:
            with later():
                _end(process)
    reader.join(POLITE_SECONDS)
    tick()
    return process.returncode


def _pass_on(stream: IO[bytes], line: Say) -> None:
    for row in stream:
        line(row.decode("utf-8", "replace").rstrip("\n"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started: politely, then at once; what it leaves behind ends too."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLITE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_lines(log: Path) -> list[str]:
    """The end of what a program said, without secrets."""
    with log.open("rb") as stream:
        stream.seek(max(log.stat().st_size - LAST_BYTES, 0))
        text = stream.read().decode("utf-8", "replace")
    rows = redact.text(redact.hide(text)).replace("\r", "\n").splitlines()
    return [row for row in rows if row.strip()][-LINES:]
