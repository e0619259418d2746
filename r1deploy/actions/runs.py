"""One changing run: it holds the cluster's lock, and leaves a line on every host it could reach."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from r1deploy.actions.context import Context
from r1deploy.actions.look import View, run_of
from r1deploy.actions.resolve import Say
from r1deploy.actions.secrets import api_key
from r1deploy.connection import ANSWER_SECONDS, Remote, on_each
from r1deploy.errors import R1Error
from r1deploy.journal import Journal
from r1deploy.planning.desired import Desired
from r1deploy.runlock import RunLock, held_by, lost, who
from r1deploy.runner.ansible import Outcome, run
from r1deploy.signals import Stopped
from r1deploy.ssh import login_of

HISTORY = "history.jsonl"


def play(
    context: Context,
    desired: Desired,
    journal: Journal,
    playbook: str,
    *,
    variables: dict[str, object] | None = None,
    groups: dict[str, tuple[str, ...]],
    host_vars: dict[str, dict[str, object]] | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Run a playbook as a part of this run. Raises LockedError LOCK_LOST where the lock went under us."""
    outcome = run(
        context.target,
        playbook,
        variables=variables,
        groups=groups,
        host_vars=host_vars,
        listen=journal.event,
        folder=folder,
        logins={host.name: login_of(host, {}, context.settings.ssh) for host in desired.hosts}.get,
        cancelled=journal.cancelled,
        held=journal.held,
    )
    if not journal.held():
        raise lost(desired.head.name)
    return outcome


@contextlib.contextmanager
def changing(context: Context, view: View, verb: str, journal: Journal, say: Say, *, wait: bool) -> Iterator[None]:
    """Hold the lock around a run, and write its line into the history of the hosts that answered.

    Raises LockedError where another run holds the cluster; Stopped after a signal. Without a head there is
    nothing to hold: only ``stop`` goes on then, and says so.
    """
    if view.desired.head.name not in view.probed.observed:
        say(f"{view.desired.head.name} does not answer: nothing keeps other runs away")
        yield
        return
    remote = context.head(view.probed)
    result, at_once = "ok", False
    try:
        with RunLock(remote, context.settings.cluster, verb, run=journal.id, wait=say if wait else None) as lock:

            def doing(step: str) -> None:
                lock.doing = step

            journal.doing, journal.cancelled, journal.held = doing, lambda: lock.lost, lock.held
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
                    write_history(context, view, verb, journal, result, lock.source)
    finally:
        journal.cancelled, journal.held = lambda: False, lambda: True
        remote.close()


def refuse_held(view: View, *, wait: bool) -> None:
    """Raise LockedError where another run holds the cluster, before more is looked at; not with ``wait``."""
    held = run_of(view)
    if held and not wait:
        raise held_by(held, view.desired.settings.cluster, view.desired.head.name)


def write_history(context: Context, view: View, verb: str, journal: Journal, result: str, source: str) -> None:
    """One line on each host; a host that cannot take it keeps the run's own result."""
    line = {
        "id": journal.id,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "verb": verb,
        "who": who(),
        "from": source,
        "result": result,
        "release": view.desired.name,
    }
    path = shlex.quote(f"{context.settings.state_dir}/{HISTORY}")
    command = f"umask 022; printf '%s\\n' {shlex.quote(json.dumps(line))} >> {path}"

    def note(remote: Remote) -> None:
        with contextlib.suppress(R1Error):
            remote.run(command, timeout=ANSWER_SECONDS)

    # Not a playbook: for one line, its start takes longer than all the rest.
    on_each([context.remote(view.probed, host) for host in view.probed.observed], note)


def api_key_of(context: Context) -> str | None:
    """The API key here, where one is set. Raises ConfigError."""
    path = context.settings.service.api_key_file
    return api_key(path) if path else None
