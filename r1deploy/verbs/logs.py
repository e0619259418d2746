"""Logs of all hosts, streamed over SSH: each line with the names of those that say it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from r1deploy.ansible.failures import Failure
from r1deploy.cluster.merging import merged
from r1deploy.cluster.ranges import FEWEST
from r1deploy.connection import Remote, raise_first
from r1deploy.errors import R1Error
from r1deploy.observe.blocking import named_hosts, told, unreachable
from r1deploy.observe.view import View, lock_of_any, look
from r1deploy.run import Run, silent
from r1deploy.session import Lines
from r1deploy.together import together

# Shows a line. In: the hosts that say it.
Show = Callable[[tuple[str, ...], str], None]
# How long lines wait for the same ones of other hosts while logs are followed, and how much text waits at the most.
HOLD_SECONDS = 1.0
MOST_HELD = 16 << 20


@dataclass(frozen=True)
class Wanted:
    """Which logs: of some hosts or all, of the engine or of builds; the last lines, and with ``follow`` what comes."""

    host: str | None = None
    build: bool = False
    follow: bool = False
    count: int = 50


class Gathered:
    """Lines of hosts on their way to a reader. Of many hosts equal lines wait for each other, else each goes on."""

    def __init__(self, hosts: Sequence[str], show: Show, hold: float | None) -> None:
        """In: seconds that lines wait at the most; None: until all hosts have ended."""
        self._show, self._hold = show, hold
        self._many = len(hosts) >= FEWEST
        self._lines: dict[str, list[str]] = {host: [] for host in hosts}
        self._held = 0
        self._running = set(hosts)
        self._turn = threading.RLock()
        self._over = threading.Event()

    def take(self, host: str, line: str) -> None:
        """A line of a host."""
        if not self._many:
            self._show((host,), line)
            return
        with self._turn:
            self._lines[host].append(line)
            self._held += len(line) + 1
            if self._held > MOST_HELD:
                self.flush()

    def ended(self, host: str) -> None:
        """A host says no more."""
        self._running.discard(host)
        if not self._running:
            self._over.set()

    def flow(self) -> None:
        """Show what waits, again and again until all hosts have ended."""
        while not self._over.wait(self._hold):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Show what waits."""
        with self._turn:
            lines, self._held = self._lines, 0
            self._lines = {host: [] for host in lines}
            for hosts, line in merged(lines):
                self._show(hosts, line)


def logs(run: Run, wanted: Wanted, shown: Callable[[Sequence[str]], Show]) -> None:
    """Show logs, with ``follow`` until Ctrl-C; a host that fails does not end those of the others.

    In: what makes the function that shows a line; it gets the hosts' names. Raises UsageError before anything is shown,
    UnreachableError and ApplyError at the end.
    """
    view = look(run.context, lock_of_any(run.context, silent))
    hosts, away = answering(view, wanted.host)
    if away and wanted.follow:
        run.say("\n".join(told((row.host, f"{row.message} ({row.code})") for row in away)))
    gathered = Gathered(hosts, shown(hosts), HOLD_SECONDS if wanted.follow else None)
    remotes = [run.remote(view, name) for name in hosts]
    works = {remote.name: partial(read, run, wanted, gathered, remote) for remote in remotes}
    try:
        ended = together({**works, "": partial(gathered.flow)})
    finally:
        for remote in remotes:
            remote.close()
        gathered.flush()
    others = f"the logs of the other {len(hosts)} are above"
    raise_first([*ended.values(), *([unreachable(away, len(hosts) + len(away), others)] if away else [])])


def read(run: Run, wanted: Wanted, gathered: Gathered, remote: Remote) -> None:
    """The logs of one host, until they end or the connection does. Raises UnreachableError, ApplyError."""
    pattern = run.layout.logs_of_builds if wanted.build else run.layout.logs_of_engines
    order = {"pattern": pattern, "count": wanted.count, "follow": wanted.follow}
    lines = Lines(partial(gathered.take, remote.name))
    try:
        code, said = remote.script("follow", order, lines.write)
        lines.end()
        if code != 0:
            raise remote.no_answer("logs", code, said)
    except R1Error as error:
        if wanted.follow:
            run.say(f"{error.message} ({error.code})")
        raise
    finally:
        gathered.ended(remote.name)


def answering(view: View, wanted: str | None) -> tuple[list[str], list[Failure]]:
    """Names of the wanted hosts that answered, and why the others did not. Raises UnreachableError where none did."""
    hosts = named_hosts(view, wanted)
    away = [view.probed.failures[host.name] for host in hosts if host.name in view.probed.failures]
    if len(away) == len(hosts):
        raise unreachable(away, len(hosts))
    return [host.name for host in hosts if host.name not in view.probed.failures], away
