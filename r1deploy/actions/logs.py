"""Logs of all hosts, streamed over SSH, each line with its host's name."""

from __future__ import annotations

from collections.abc import Callable

from r1deploy.actions.remote import hosts_of
from r1deploy.connection import Lines, Remote, on_each
from r1deploy.observe.context import Context
from r1deploy.observe.view import lock_of_any, look

Line = Callable[[str], None]


def logs(context: Context, show: Line, *, host: str | None, build: bool, follow: bool, count: int) -> None:
    """Show the last lines, then with ``follow`` what comes, until Ctrl-C. Raises UsageError, UnreachableError."""
    view = look(context, lock_of_any(context, lambda _: None))
    hosts = hosts_of(view, host)
    top = f"{context.settings.state_dir}/releases"
    pattern = f"{top}/*/*.log" if build else f"{top}/*/outputs/*/serve_logs/*.output"
    order = {"pattern": pattern, "count": count, "follow": follow}
    wide = max(len(found.name) for found in hosts)

    def one(remote: Remote) -> None:
        head = f"{remote.name.ljust(wide)} | "
        lines = Lines(lambda line: show(head + line))
        code, said = remote.script("follow", order, lines.write)
        lines.end()
        if code != 0:
            raise remote.no_answer("logs", code, said)

    on_each([context.remote(view.probed, found.name) for found in hosts], one)
