"""Our end of the pipe to the supervisor of a run: it ends all of the run's processes when we say so, or are gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from r1deploy import signals
from r1deploy.ansible import supervisor, watchdog

# The folder of the run, for the callback plugin that asks before each task and each play.
FOLDER = "R1_RUN_FOLDER"
ASK, ANSWER = "ask", "answer"
CALLBACKS = Path(__file__).resolve().parent / "callbacks"
LOOK_SECONDS = 0.1
OF_TASK, OF_PLAY = b"?", b"p"


def launcher(folder: Path, own: Path) -> Path:
    """A folder with an ``ansible-playbook`` that runs below the supervisor. In: the run's folder, this Python's."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    program = place / "ansible-playbook"
    script = str(Path(supervisor.__file__).resolve())
    command = shlex.join([sys.executable, "-I", "-S", script, str(folder), str(own / "ansible-playbook")])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    return place


class Leash:
    """Open while a playbook runs.

    In: the run's folder; ``cancelled``, asked again and again: once it says yes, the run
    ends; ``held``, asked before each task, and ``more``, asked before each play: these wait
    for the answer, and once it is no, the run ends without them.
    ``held`` None: it is not asked.
    When this is closed, no process of the run lives.
    """

    def __init__(
        self,
        folder: Path,
        cancelled: Callable[[], bool],
        held: Callable[[], bool] | None,
        more: Callable[[], bool] = lambda: True,
    ) -> None:
        self._folder, self._cancelled = folder, cancelled
        self._asks = {OF_TASK: held or more, OF_PLAY: more}
        self._done = False
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> Leash:
        names = (supervisor.LIFE, ASK, ANSWER)
        for name in names:
            os.mkfifo(self._folder / name, 0o600)
        # For reading and writing: neither to open it nor to write one byte waits for the other side.
        self._life, self._asked, self._answers = (os.open(self._folder / name, os.O_RDWR) for name in names)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs, and wait for that."""
        with signals.later():
            self.end()
            self._wait()
            self._done = True
            os.write(self._asked, b".")

    def end(self) -> None:
        """Have the supervisor end the run now. May be called at any time, by a signal's handler too."""
        os.write(self._life, b"e")

    def _wait(self) -> None:
        """Until the supervisor is gone: it is the last one, and has a file locked as long as it lives."""
        alive = self._folder / supervisor.ALIVE
        until = time.monotonic() + supervisor.PATIENCE_SECONDS + 1
        with contextlib.suppress(FileNotFoundError), alive.open("rb") as stream:
            while time.monotonic() < until:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.005)
        if alive.exists():
            # The supervisor was killed, and cannot end what is below it.
            watchdog.end_marked(self._folder)

    def _answer(self) -> None:
        ended = False
        while not self._done:
            said = os.read(self._asked, 1) if select.select([self._asked], [], [], LOOK_SECONDS)[0] else b""
            asked = self._asks.get(said)
            if not ended and (self._cancelled() or (asked and not asked())):
                ended = True
                self.end()
            if asked and not ended:
                os.write(self._answers, b"y")
        # Here and not where we are closed: to ask the head may take longer than that waits.
        for handle in (self._life, self._asked, self._answers):
            os.close(handle)
