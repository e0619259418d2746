"""Logs of all hosts, streamed over SSH, each line with its host's name."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from r1deploy.actions.context import Context
from r1deploy.actions.look import lock_of_any, look
from r1deploy.errors import UsageError

Line = Callable[[str], None]


def logs(context: Context, show: Line, *, host: str | None, build: bool, follow: bool, count: int) -> None:
    """Show the last lines, then with ``follow`` what comes. Raises UsageError, UnreachableError."""
    view = look(context, lock_of_any(context, lambda _: None))
    hosts = [found for found in view.desired.hosts if host in (None, found.name)]
    if not hosts:
        names = ", ".join(found.name for found in view.desired.hosts)
        raise UsageError("LIMIT_EMPTY", f"--host {host}: no such host", fix=f"hosts are: {names}")
    top = f"{context.settings.state_dir}/releases"
    files = f"{top}/*/*.log" if build else f"{top}/*/outputs/*/serve_logs/*.output"
    wide = max(len(found.name) for found in hosts)
    tail = f"tail -q -n {count}" + (" -F" if follow else "")
    # sh expands the pattern as root; a host without such a log says nothing.
    command = "sh -c " + shlex.quote(f'set -- {files}; [ -e "$1" ] || exit 0; exec {tail} "$@"')

    def one(index: int) -> None:
        found = hosts[index]
        remote = context.remote(view.probed, found.name)

        def headed(line: str) -> None:
            show(f"{found.name.ljust(wide)} | {line}")

        try:
            remote.run(command, line=headed, error_line=headed)
        finally:
            remote.close()

    with ThreadPoolExecutor(len(hosts)) as pool:
        for done in [pool.submit(one, index) for index in range(len(hosts))]:
            done.result()
