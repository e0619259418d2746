"""The cluster's lock: one run at a time, held on the head over a connection of its own.

The lock lives exactly as long as the connection and its heartbeat: a run that was
killed, or whose machine went away, leaves nothing to clean up.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from r1deploy.errors import LockedError, UnreachableError
from r1deploy.remote import Remote
from r1deploy.runner.probe import lock_path

BEAT_SECONDS = 4.0
SILENCE_SECONDS = 20.0
WAIT_SECONDS = 2.0
LOOK_SECONDS = 0.2
ANSWER_SECONDS = 15.0
Say = Callable[[str], None]


def who() -> str:
    """The person and machine that runs this."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def release(remote: Remote, cluster: str) -> dict[str, Any] | None:
    """End another run's hold; returns what the lock said, None where nobody held it."""
    said: list[str] = []
    remote.script("lock", {"op": "release", "path": lock_path(cluster)}, b"", said.append)
    found: dict[str, Any] | None = json.loads(said[-1])["released"]
    return found


class RunLock:
    """Holds the cluster's lock while it is open; ``lost`` says that it no longer does.

    Entering raises LockedError LOCKED where another run holds it and ``wait`` is
    false; UnreachableError where the head cannot be reached (never called a lock).
    ``run`` is the id under which the history will know this run.
    """

    def __init__(self, remote: Remote, cluster: str, verb: str, say: Say, *, run: str, wait: bool = False) -> None:
        self._run = run
        self._remote, self._cluster, self._verb, self._say, self._wait = remote, cluster, verb, say, wait
        self._channel: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self.doing = "beginning"
        self.source = ""
        self.lost = False
        self._talk = threading.Lock()
        self._answers: Any = None

    def __enter__(self) -> RunLock:
        told = False
        while True:
            held = self._take()
            if held is None:
                self._thread.start()
                return self
            if not self._wait:
                raise held_by(held, self._cluster, self._remote.host.name)
            if not told:
                self._say(f"waiting: {sentence(held)}")
                told = True
            time.sleep(WAIT_SECONDS)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(OSError):
            self._channel.sendall(b"done\n")
            self._channel.shutdown_write()
            self._answers.read()
        self._channel.close()

    def _take(self) -> dict[str, Any] | None:
        """Try once; what the lock says where somebody else holds it."""
        self.source = self._remote.local_address()
        info = {
            "id": self._run,
            "who": who(),
            "from": self.source,
            "verb": self._verb,
            "doing": None,
        }
        order = {"op": "hold", "path": lock_path(self._cluster), "silence": SILENCE_SECONDS, "info": info}
        channel = self._remote.start("lock", order)
        channel.settimeout(ANSWER_SECONDS)
        answers = channel.makefile("r")
        try:
            line = answers.readline()
        except OSError:
            line = ""
        try:
            answer = json.loads(line)
        except ValueError:
            said = (line + channel.makefile_stderr("r").read()).strip().splitlines()[-5:]
            message = f"{self._remote.host.name}: the lock's script gave no answer"
            raise UnreachableError("PROBE_INCOMPLETE", message, host=self._remote.host.name, evidence=said) from None
        if "held" in answer:
            channel.close()
            return answer["held"] or {}
        self._channel, self._answers = channel, answers
        return None

    def _beat(self) -> None:
        due = time.monotonic() + BEAT_SECONDS
        while not self.lost and not self._stop.wait(LOOK_SECONDS):
            # The other side ends at once where somebody releases the lock: that does not wait for the next beat.
            if time.monotonic() >= due or self._channel.exit_status_ready():
                self.held()
                due = time.monotonic() + BEAT_SECONDS

    def held(self) -> bool:
        """Tell the head that we live and what we do; whether it still holds the lock for us."""
        with self._talk:
            if not self.lost:
                try:
                    self._channel.sendall(f"{self.doing}\n".encode())
                    self.lost = not self._answers.readline()
                except OSError:
                    self.lost = True
        return not self.lost


def held_by(info: dict[str, Any], cluster: str, head: str) -> LockedError:
    """Another run holds the cluster: who, from where, since when, doing what."""
    return LockedError(
        "LOCKED", sentence(info), host=head, fix="wait for it with --wait, or look: r1deploy lock status"
    )


def lost(head: str) -> LockedError:
    """Our own hold ended under us."""
    message = "this run no longer holds the cluster: the head was not heard for too long, or somebody released the lock"
    return LockedError("LOCK_LOST", message, host=head, fix="r1deploy lock status; then run the same command again")


def sentence(info: dict[str, Any]) -> str:
    """A lock in words."""
    if not info:
        return "another run has just begun on this cluster"
    since = datetime.datetime.fromtimestamp(float(info["since"]), datetime.UTC).isoformat(timespec="seconds")
    doing = f", now at {info['doing']}" if info.get("doing") else ""
    return f"{info['who']} (from {info['from']}) runs {info['verb']} since {since}{doing}"
