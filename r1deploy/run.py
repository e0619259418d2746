"""One run of a verb: the cluster it is about, how it speaks, and what holds the cluster for it."""

from __future__ import annotations

import contextlib
import json
import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from r1deploy.ansible.events import Event
from r1deploy.ansible.runner import Listener, Outcome, Play, Watch, run
from r1deploy.ansible.sockets import kept_open
from r1deploy.connection import Remote, on_each
from r1deploy.errors import ApplyError, R1Error
from r1deploy.hostlink import HostLink
from r1deploy.journal import Journal
from r1deploy.observe.context import Context
from r1deploy.observe.view import View, run_of
from r1deploy.planning.desired import Desired
from r1deploy.planning.layout import Layout
from r1deploy.runlock import RunLock, held_by, lost, who
from r1deploy.session import ANSWER_SECONDS
from r1deploy.settings.model import Settings
from r1deploy.signals import Stopped
from r1deploy.ssh import login_of
from r1deploy.together import Ended, Lanes
from r1deploy.voice import Progress, Say


def silent(*_: object) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Voice:
    """How a run speaks: sentences, a bar, and what Ansible does."""

    say: Say = silent
    bar: Progress = silent
    event: Listener = silent


class Run:
    """What a verb works with. ``wait``: whether it waits while another run holds the cluster."""

    def __init__(self, context: Context, voice: Voice, *, wait: bool = False) -> None:
        self.context, self.wait = context, wait
        self.say, self._bar, self._event = voice.say, voice.bar, voice.event
        self.lanes = Lanes()
        # Lanes speak at once, and neither the log nor what is shown takes that. A signal may come in the middle.
        self._turn = threading.RLock()
        self._journal: Journal | None = None
        self._lock: RunLock | None = None

    @property
    def settings(self) -> Settings:
        """The merged settings."""
        return self.context.settings

    @property
    def layout(self) -> Layout:
        """Our paths on every host."""
        return Layout(self.settings.state_dir)

    @property
    def id(self) -> str:
        """The run's name in the hosts' history; "" before it holds the cluster."""
        return self._journal.id if self._journal else ""

    @property
    def log(self) -> Path | None:
        """The log of what this run does on the hosts; None: it did nothing yet, or it cannot be written."""
        return self._journal.path if self._journal else None

    @property
    def lost(self) -> bool:
        """Whether the cluster is no longer held for this run."""
        return self._lock is not None and self._lock.lost

    def bar(self, what: str, done: int, total: int) -> None:
        """Show how far something is."""
        with self._turn:
            self._bar(what, done, total)

    def side_by_side(self, works: Collection[Callable[[], None]]) -> None:
        """Do parts of this run at once, as the lanes of ``lanes``. Raises as ``Lanes.run`` does."""
        self.lanes = Lanes()
        self.lanes.run(works)

    def refuse_lost(self, head: str) -> None:
        """Raise LockedError LOCK_LOST where the cluster is no longer held for this run. In: the head's name."""
        if self.lost:
            raise lost(head)

    def remote(self, view: View, name: str) -> Remote:
        """A connection to a host."""
        return self.context.remote(view.probed, name)

    def head(self, view: View) -> Remote:
        """A connection to the head."""
        return self.context.head(view.probed)

    def at(self, step: str) -> None:
        """Say at the lock what this run does now."""
        if self._lock:
            self._lock.doing = step

    def refuse_held(self, view: View) -> None:
        """Raise LockedError where another run holds the cluster, before more is looked at; not where we wait."""
        held = run_of(view)
        if held and not self.wait:
            raise held_by(held, self.settings.cluster, view.desired.head.name)

    @contextlib.contextmanager
    def hold(self, view: View, verb: str) -> Iterator[None]:
        """Hold the cluster, and write a line into the history of the hosts that answered.

        Raises LockedError where another run holds the cluster; Stopped after a signal. Without a head there is
        nothing to hold: only ``stop`` goes on then, and says so.
        """
        self._journal = Journal(self.settings.cluster, verb, self._event)
        if view.desired.head.name not in view.probed.observed:
            self.say(f"{view.desired.head.name} does not answer: nothing keeps other runs away")
            yield
            return
        with self.head(view) as remote:
            told = self.say if self.wait else None
            lock = RunLock(remote, self.settings.cluster, verb, run=self._journal.id, wait=told)
            with lock:
                self._lock = lock
                try:
                    with self._connections(), self._told(view, verb, lock):
                        yield
                finally:
                    self._lock = None

    @contextlib.contextmanager
    def _connections(self) -> Iterator[None]:
        """One login to each host for all that follows."""
        before = self.context
        with kept_open() as sockets:
            self.context = before.with_sockets(sockets)
            try:
                yield
            finally:
                self.context = before

    @contextlib.contextmanager
    def _told(self, view: View, verb: str, lock: RunLock) -> Iterator[None]:
        """Write down how a run ended, unless it no longer holds the cluster, or must end at once."""
        result, at_once = "ok", False
        try:
            yield
        except Stopped as stop:
            result, at_once = "INTERRUPTED", stop.at_once
            stop.fix = stop.fix or "run the same command again: it joins what still runs"
            raise
        except BaseException as error:
            result = error.code if isinstance(error, R1Error) else type(error).__name__
            raise
        finally:
            if not (lock.lost or at_once or verb == "reset"):
                self._write_history(view, {"verb": verb, "result": result, "from": lock.source})

    def _write_history(self, view: View, said: dict[str, str]) -> None:
        """One line on each host; a host that cannot take it keeps the run's own result."""
        line = {
            "id": self.id,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "verb": said["verb"],
            "who": who(),
            "from": said["from"],
            "result": said["result"],
            "release": view.desired.name,
        }
        path = shlex.quote(self.layout.history)
        command = f"umask 022; printf '%s\\n' {shlex.quote(json.dumps(line))} >> {path}"

        def note(link: HostLink) -> None:
            with contextlib.suppress(R1Error):
                link.run(command, timeout=ANSWER_SECONDS)

        # Not a playbook: for one line, its start takes longer than all the rest.
        on_each([self.context.way(view.probed, host) for host in view.probed.observed], note)

    def play(self, desired: Desired, play: Play, also: Listener = silent) -> Outcome:
        """Run a playbook as a part of this run. Raises LockedError LOCK_LOST where the lock went under us.

        In: who hears its events too. In a lane, raises Ended where another lane ended it.
        """
        logins = {host.name: login_of(host, {}, self.settings.ssh) for host in desired.hosts}
        lanes = self.lanes
        lanes.may_begin()

        def heard(event: Event) -> None:
            also(event)
            self.heard(event)

        def cancelled() -> bool:
            return self.lost or lanes.over.is_set()

        watch = Watch(heard, logins.get, cancelled, self._held, lambda: not lanes.failed.is_set())
        outcome = run(self.context.target, play, watch)
        if lanes.over.is_set():
            raise Ended(outcome.working)
        if not self._held():
            raise lost(desired.head.name)
        if lanes.failed.is_set() and not (outcome.ok or outcome.failures):
            raise Ended(outcome.working)
        return outcome

    def apply(self, desired: Desired, play: Play, also: Listener = silent) -> None:
        """As ``play``. Raises ApplyError too, for the first failure, with its evidence."""
        outcome = self.play(desired, play, also)
        if outcome.failures:
            row = outcome.failures[0]
            others = [f"{other.host}: {other.message}" for other in outcome.failures[1:]]
            raise ApplyError(
                row.code,
                f"{row.host}: {row.step}: {row.task}: {row.message}",
                host=row.host,
                evidence=[*row.evidence, *others],
                fix=row.fix or "mend the cause and run the same command again: finished work is kept",
                log=self.log,
            )
        if not outcome.ok:
            raise ApplyError("ANSIBLE_FAILED", "Ansible could not run", evidence=outcome.tail, log=self.log)

    def _held(self) -> bool:
        return self._lock is None or self._lock.held()

    def heard(self, event: Event) -> None:
        """Take one event of Ansible, or of what is done in its place."""
        with self._turn:
            if event.kind not in ("skipped", "start"):
                self.at(event.step)
            if self._journal:
                self._journal.event(event)
