"""Inside our containers and at the endpoint, from here: exec, shell, tunnel."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

from r1deploy.cluster.host import Host
from r1deploy.connection import BLOCK, Lines, Remote, Session, on_each
from r1deploy.dockercli import docker
from r1deploy.errors import PreflightError, R1Error, UsageError
from r1deploy.observe.context import Context
from r1deploy.observe.view import View, lock_of, look, unreachable
from r1deploy.onhost import attached

Line = Callable[[str], None]


def view_of(context: Context) -> View:
    """The cluster as it is; nothing is said."""
    return look(context, lock_of(context, frozenset(), lambda _: None))


def hosts_of(view: View, host: str | None) -> list[Host]:
    """The named host, or all of them. Raises UsageError LIMIT_EMPTY, UnreachableError."""
    hosts = [found for found in view.desired.hosts if host in (None, found.name)]
    if not hosts:
        names = ", ".join(found.name for found in view.desired.hosts)
        raise UsageError("LIMIT_EMPTY", f"--host {host}: no such host", fix=f"hosts are: {names}")
    failures = [view.probed.failures[found.name] for found in hosts if found.name in view.probed.failures]
    if failures:
        raise unreachable(failures, len(hosts))
    return hosts


def container_of(view: View, host: Host) -> str:
    """The active container of a host, else the one that bootstrap prepared. Raises PreflightError CONTAINER_MISSING."""
    found = view.probed.observed[host.name]
    settings = view.desired.settings
    active = found.container_named(settings.container.name)
    for row in (active, found.container_of(settings.cluster, view.desired.release.id)):
        if row is not None and row.cluster == settings.cluster and row.running:
            return row.name
    message = f"{host.name}: no container of the cluster {settings.cluster} runs there"
    raise PreflightError("CONTAINER_MISSING", message, host=host.name, fix="r1deploy bootstrap")


def execute(
    context: Context, command: Sequence[str], host: str | None, out: Line, err: Line, stdin: BinaryIO | None = None
) -> int:
    """Run a command in our container on one host or all; each line comes with its host's name.

    In: ``stdin``, which goes to the command where that is one host's only. Returns the highest exit code.
    Raises UsageError, UnreachableError, PreflightError before anything runs.
    """
    view = view_of(context)
    hosts = hosts_of(view, host)
    containers = {found.name: container_of(view, found) for found in hosts}
    wide = max(len(found.name) for found in hosts)
    source = stdin if len(hosts) == 1 else None

    def one(remote: Remote) -> int:
        head, token = f"{remote.name.ljust(wide)} | ", secrets.token_hex(16)
        lines = Lines(lambda text: out(head + text)), Lines(lambda text: err(head + text))
        argv = docker("exec", "-e", f"{attached.NAME}={token}", *(["-i"] if source else []))
        order = {"argv": [*argv, containers[remote.name], *command], "token": token, "input": source is not None}
        feed = functools.partial(pass_on, source) if source else None
        code, _ = remote.script("attached", order, lines[0].write, lines[1].write, feed)
        for stream in lines:
            stream.end()
        return code

    return max(on_each([context.remote(view.probed, found.name) for found in hosts], one))


def pass_on(source: BinaryIO, session: Session) -> None:
    """Our standard input → the command's, until one of them ends; the command's output does not wait for it."""

    def work() -> None:
        with contextlib.suppress(R1Error):  # the command has ended, or its host is gone: who reads its output says so
            while data := os.read(source.fileno(), BLOCK):
                session.send(data)
            session.finish_input()

    threading.Thread(target=work, daemon=True).start()


def shell(context: Context, host: str | None) -> int:
    """An interactive shell in our container on a host (the head unless named), on the caller's terminal.

    Returns its exit code. Raises UsageError, UnreachableError, PreflightError.
    """
    view = view_of(context)
    found = hosts_of(view, host or view.desired.head.name)[0]
    login = context.login(view.probed, found.name)
    sudo = ["sudo"] if login.sudo("") else []
    inside = shlex.join([*sudo, *docker("exec", "-it", container_of(view, found), "/bin/bash")])
    # Before the options: the first one wins, and this is the one connection that needs a terminal.
    return subprocess.call(["ssh", "-tt", *login.openssh()[1:], inside])


def tunnel(context: Context, port: int, ready: Line) -> None:
    """Bring the endpoint here until it is interrupted; ``ready`` gets its URL.

    Raises UnreachableError TUNNEL_FAILED.
    """
    view = view_of(context)
    head = hosts_of(view, view.desired.head.name)[0]
    with context.remote(view.probed, head.name) as remote:
        record = view.plan.serving.record
        ready(remote.forward(record.port if record else context.settings.engine.port, port))
        remote.wait()
