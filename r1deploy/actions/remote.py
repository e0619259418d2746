"""Inside our containers and at the endpoint, from here: exec, shell, tunnel."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from r1deploy.actions.context import Context
from r1deploy.actions.look import View, lock_of, look, unreachable
from r1deploy.cluster.host import Host
from r1deploy.dockercli import docker
from r1deploy.errors import PreflightError, UsageError
from r1deploy.remote import destination, options, sudo_of

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


def execute(context: Context, command: Sequence[str], host: str | None, out: Line, err: Line) -> int:
    """Run a command in our container on one host or all; each line comes with its host's name.

    Returns the highest exit code. Raises UsageError, UnreachableError, PreflightError before anything runs.
    """
    view = view_of(context)
    hosts = hosts_of(view, host)
    containers = [container_of(view, found) for found in hosts]
    wide = max(len(found.name) for found in hosts)

    def one(index: int) -> int:
        found = hosts[index]
        head = f"{found.name.ljust(wide)} | "
        line = shlex.join(docker("exec", containers[index], *command))
        with context.remote(view.probed, found.name) as remote:
            return remote.run(line, lambda text: out(head + text), lambda text: err(head + text))[0]

    with ThreadPoolExecutor(len(hosts)) as pool:
        return max(pool.map(one, range(len(hosts))))


def shell(context: Context, host: str | None) -> int:
    """An interactive shell in our container on a host (the head unless named), on the caller's terminal.

    Returns its exit code. Raises UsageError, UnreachableError, PreflightError.
    """
    view = view_of(context)
    found = hosts_of(view, host or view.desired.head.name)[0]
    login = view.probed.login.get(found.name, {})
    sudo = ["sudo"] if sudo_of(login, found.user or "")[0] else []
    inside = shlex.join([*sudo, *docker("exec", "-it", container_of(view, found), "/bin/bash")])
    return subprocess.call(["ssh", *options(login, context.settings.ssh), "-t", destination(found, login), inside])


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
