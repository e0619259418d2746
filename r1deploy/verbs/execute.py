"""Run a command in our containers: what ``exec`` does."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from r1deploy.connection import Remote, on_each
from r1deploy.dockercli import docker
from r1deploy.errors import R1Error
from r1deploy.observe.blocking import container_of, hosts_of
from r1deploy.observe.view import lock_of_any, look
from r1deploy.onhost import attached
from r1deploy.run import Run, silent
from r1deploy.session import BLOCK, Lines, Session
from r1deploy.voice import Say


@dataclass(frozen=True)
class Streams:
    """Where a command's lines go, and what it reads where it runs on one host only."""

    out: Say
    err: Say
    stdin: BinaryIO | None = None


def execute(run: Run, command: Sequence[str], host: str | None, streams: Streams) -> int:
    """Run a command in our container on one host or all; each line comes with its host's name.

    Returns the highest exit code. Raises UsageError, UnreachableError, PreflightError before anything runs.
    """
    view = look(run.context, lock_of_any(run.context, silent))
    hosts = hosts_of(view, host)
    containers = {row.name: container_of(view, row) for row in hosts}
    wide = max(len(row.name) for row in hosts)
    source = streams.stdin if len(hosts) == 1 else None

    def one(remote: Remote) -> int:
        head, token = f"{remote.name.ljust(wide)} | ", secrets.token_hex(16)
        lines = Lines(lambda text: streams.out(head + text)), Lines(lambda text: streams.err(head + text))
        argv = docker("exec", "-e", f"{attached.NAME}={token}", *(["-i"] if source else []))
        order = {"argv": [*argv, containers[remote.name], *command], "token": token, "input": source is not None}
        feed = functools.partial(pass_on, source) if source else None
        code, _ = remote.script("attached", order, lines[0].write, lines[1].write, feed)
        for stream in lines:
            stream.end()
        return code

    return max(on_each([run.remote(view, row.name) for row in hosts], one))


def pass_on(source: BinaryIO, session: Session) -> None:
    """Our standard input → the command's, until one of them ends; the command's output does not wait for it."""

    def work() -> None:
        with contextlib.suppress(R1Error):  # the command has ended, or its host is gone: who reads its output says so
            while data := os.read(source.fileno(), BLOCK):
                session.send(data)
            session.finish_input()

    threading.Thread(target=work, daemon=True).start()
