"""The cluster's lock: one run at a time, held on the head over a connection of its own.

The lock lives exactly as long as the connection and its heartbeat: a run that was
killed, or whose machine went away, leaves nothing to clean up.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from r1deploy.connection import Remote
from r1deploy.errors import LockedError, R1Error
from r1deploy.planning.layout import lock_file
from r1deploy.planning.recorded import LockInfo
from r1deploy.session import Kept, Session, answer_in

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
    """End another run's hold; returns what the lock said, None where nobody held it. Raises R1Error."""
    kept = Kept()
    code, said = remote.script("holder", {"op": "release", "path": lock_file(cluster)}, kept.write)
    answer = answer_in(kept.text)
    if not isinstance(answer, dict) or "released" not in answer:
        raise remote.no_answer("the lock's script", code, said)
    return None if answer["released"] is None else info_of(answer["released"])


def info_of(said: object) -> dict[str, Any]:
    """What a lock says of its owner; nothing where it has another shape."""
    try:
        return LockInfo.model_validate(said).model_dump(by_alias=True)
    except ValidationError:
        return {}


class RunLock:
    """Holds the cluster's lock while it is open; ``lost`` says that it no longer does.

    ``run`` is the id under which the history will know this run. ``wait`` is told once
    that another run is waited for; None: it is not waited for.
    Entering raises LockedError LOCKED where another run holds it and nobody waits;
    UnreachableError where the head cannot be reached (never called a lock).
    """

    def __init__(self, remote: Remote, cluster: str, verb: str, *, run: str, wait: Say | None = None) -> None:
        self._remote, self._cluster, self._verb, self._run, self._wait = remote, cluster, verb, run, wait
        self._session: Session | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self.doing = "beginning"
        self.source = ""
        self.lost = False
        self._talk = threading.Lock()
        self._rest = b""
        self._blocks: Iterator[bytes] = iter(())

    def __enter__(self) -> RunLock:
        told = False
        while True:
            held = self._take()
            if held is None:
                self._thread.start()
                return self
            if self._wait is None:
                raise held_by(held, self._cluster, self._remote.name)
            if not told:
                self._wait(f"waiting: {sentence(held)}")
                told = True
            time.sleep(WAIT_SECONDS)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._session:
            with contextlib.suppress(R1Error):
                self._session.send(b"done\n")
                self._session.finish_input()
                self._session.deadline = time.monotonic() + ANSWER_SECONDS
                for _block in self._session.read():
                    pass
            self._session.close()

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
        order = {"op": "hold", "path": lock_file(self._cluster), "silence": SILENCE_SECONDS, "info": info}
        session = self._remote.module("holder", order)
        self._blocks = session.read()
        session.deadline = time.monotonic() + ANSWER_SECONDS
        with contextlib.ExitStack() as unless_held:
            unless_held.callback(session.close)
            answer = self._answer()
            if answer is None:
                raise self._remote.no_answer("the lock's script", session.code(), session.said.text)
            if "held" in answer:
                return info_of(answer["held"])
            unless_held.pop_all()
        self._session = session
        return None

    def _answer(self) -> dict[str, Any] | None:
        """The script's next answer; None where it ended. Raises UnreachableError where the link is silent."""
        while True:
            line, end, rest = self._rest.partition(b"\n")
            if not end:
                block = next(self._blocks, None)
                if block is None:
                    return None
                self._rest += block
                continue
            self._rest = rest
            answer = answer_in(line.decode("utf-8", "replace"))
            if isinstance(answer, dict):
                return answer

    def _beat(self) -> None:
        due = time.monotonic() + BEAT_SECONDS
        while not self.lost and not self._stop.wait(LOOK_SECONDS):
            # The other side ends at once where somebody releases the lock: that does not wait for the next beat.
            if time.monotonic() >= due or (self._session and self._session.ended):
                self.held()
                due = time.monotonic() + BEAT_SECONDS

    def held(self) -> bool:
        """Tell the head that we live and what we do; whether it still holds the lock for us."""
        with self._talk:
            if not self.lost and self._session:
                try:
                    self._session.deadline = time.monotonic() + ANSWER_SECONDS
                    self._session.send(f"{self.doing}\n".encode())
                    self.lost = self._answer() is None
                except R1Error:
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
