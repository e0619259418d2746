"""Logs of all hosts, streamed over SSH, each line with its host's name."""

from __future__ import annotations

from dataclasses import dataclass

from r1deploy.connection import Remote, on_each
from r1deploy.observe.blocking import hosts_of
from r1deploy.observe.view import lock_of_any, look
from r1deploy.run import Run, silent
from r1deploy.session import Lines
from r1deploy.voice import Say


@dataclass(frozen=True)
class Wanted:
    """Which logs: of one host or all, of the engine or of builds; the last lines, and with ``follow`` what comes."""

    host: str | None = None
    build: bool = False
    follow: bool = False
    count: int = 50


def logs(run: Run, wanted: Wanted, show: Say) -> None:
    """Show logs, with ``follow`` until Ctrl-C. Raises UsageError, UnreachableError."""
    view = look(run.context, lock_of_any(run.context, silent))
    hosts = hosts_of(view, wanted.host)
    pattern = run.layout.logs_of_builds if wanted.build else run.layout.logs_of_engines
    order = {"pattern": pattern, "count": wanted.count, "follow": wanted.follow}
    wide = max(len(host.name) for host in hosts)

    def one(remote: Remote) -> None:
        head = f"{remote.name.ljust(wide)} | "
        lines = Lines(lambda line: show(head + line))
        code, said = remote.script("follow", order, lines.write)
        lines.end()
        if code != 0:
            raise remote.no_answer("logs", code, said)

    on_each([run.remote(view, host.name) for host in hosts], one)
