"""A module of ``r1deploy.onhost`` at work in a container, under the node's own ``env.sh``; its lines as they come."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1deploy import shipping
from r1deploy.connection import Remote
from r1deploy.dockercli import docker
from r1deploy.errors import UnreachableError
from r1deploy.onhost import attached
from r1deploy.session import Lines, Session
from r1deploy.voice import Say

# What one part may print on one host, lines and bytes: more is not taken. Of its last line so much is told.
MOST_LINES, MOST_BYTES, MOST_TOLD = 100_000, 16 << 20, 400
TOO_MUCH = "it was ended: it took too long, or said too much"


@dataclass(frozen=True)
class Place:
    """Where a part works: a container, Python in it, and the file with its environment ("" where there is none)."""

    container: str
    python: str
    env: str


@dataclass(frozen=True)
class Heard:
    """The lines of a part; ``last`` says why it did not end by itself, "" where it did."""

    lines: tuple[str, ...]
    last: str = ""


@dataclass(frozen=True)
class Work:
    """What to run: a module, its order (JSON types), and the seconds that it may take in all."""

    module: shipping.Script
    order: Mapping[str, Any]
    seconds: float


def command(place: Place, module: shipping.Script) -> list[str]:
    """argv in the container: the environment first, then Python in its place, which keeps standard input."""
    run = f"exec {shipping.command(shlex.quote(place.python), module)}"
    return ["bash", "-c", f"source {shlex.quote(place.env)} && {run}" if place.env else run]


def work_inside(remote: Remote, place: Place, work: Work, line: Say) -> Heard:
    """Run a part in a container to its end, or until its time is over: then nothing of it is left.

    In: ``line`` takes each line as it comes. Raises UnreachableError, PreflightError.
    """
    token = secrets.token_hex(16)
    argv = docker("exec", "-i", "-e", f"{attached.NAME}={token}", place.container, *command(place, work.module))
    session = remote.module("attached", {"argv": argv, "token": token, "input": True})
    return heard(session, work.seconds, line, shipping.parcel(work.module, work.order))


def work_on_host(remote: Remote, work: Work, line: Say) -> Heard:
    """The same on the host itself, with its own Python."""
    return heard(remote.module(work.module, work.order), work.seconds, line)


def heard(session: Session, seconds: float, line: Say, parcel: bytes = b"") -> Heard:
    """All lines of a session until it ends, or until its time is over; it is closed then.

    In: ``parcel`` is sent first. Raises UnreachableError where the link is down.
    """
    kept: list[str] = []
    until, size = time.monotonic() + seconds, 0
    session.deadline = until

    def take(text: str) -> None:
        if len(kept) < MOST_LINES:
            kept.append(text)
            line(text)

    out = Lines(take)
    try:
        if parcel:
            session.send(parcel)
        session.finish_input()
        for data in session.read():
            out.write(data)
            size += len(data)
            if time.monotonic() > until or len(kept) >= MOST_LINES or size > MOST_BYTES:
                return Heard(tuple(kept), TOO_MUCH)
        out.end()
        code, said = session.code(), session.said.text
    except UnreachableError:
        if time.monotonic() < until:
            raise
        return Heard(tuple(kept), TOO_MUCH)
    finally:
        session.close()
    return Heard(tuple(kept), "" if code == 0 else f"it ended with code {code}" + told_last(said))


def told_last(said: str) -> str:
    """``: `` and the last line of what a host said; "" where there is none. No more of it than a reader takes."""
    last = next((row.strip() for row in reversed(said.splitlines()) if row.strip()), "")
    return f": {last[:MOST_TOLD]}" if last else ""
