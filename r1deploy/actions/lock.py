"""Look at the cluster's lock, end another run's hold, and tell the history of runs."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r1deploy import runlock
from r1deploy.journal import logs_of
from r1deploy.observe.context import Context
from r1deploy.observe.view import View, lock_of_any, look, refuse_unreachable
from r1deploy.planning.observed import LockInfo
from r1deploy.voice import Say


def status(context: Context, say: Say) -> dict[str, Any] | None:
    """Who holds the cluster; None where nobody does. Raises UnreachableError without the head."""
    view = with_head(context, say)
    held = view.probed.observed[view.desired.head.name].lock
    return held.model_dump(by_alias=True) if held else None


def release(context: Context, confirm: Callable[[dict[str, Any]], None], say: Say) -> dict[str, Any] | None:
    """End the hold of another run; returns what the lock said. In: ``confirm`` takes who holds it, and may refuse.

    Raises UnreachableError.
    """
    view = with_head(context, say)
    held = view.probed.observed[view.desired.head.name].lock
    if held is None:
        return None
    confirm(held.model_dump(by_alias=True))
    remote = context.head(view.probed)
    try:
        return runlock.release(remote, context.settings.cluster)
    finally:
        remote.close()


def with_head(context: Context, say: Say) -> View:
    """A view whose head answered: nobody else knows the lock. Raises UnreachableError."""
    view = look(context, lock_of_any(context, say))
    if view.desired.head.name in view.probed.failures:
        refuse_unreachable(view.probed)
    return view


def history(context: Context, say: Say) -> list[dict[str, Any]]:
    """Runs by time: what the hosts have written down, with the path of the log where it is on this machine.

    The run that holds the cluster is among them, as running.
    """
    view = look(context, lock_of_any(context, say))
    logs = logs_of(context.settings.cluster)
    rows: dict[str, dict[str, Any]] = {}
    for host, found in view.probed.observed.items():
        for line in found.state.history:
            row = rows.setdefault(line.id, {**line.model_dump(by_alias=True), "hosts": [], "log": logs.get(line.id)})
            row["hosts"].append(host)
    head = view.probed.observed.get(view.desired.head.name)
    if head and head.lock:
        rows[head.lock.id] = {**running(head.lock), "hosts": [view.desired.head.name], "log": logs.get(head.lock.id)}
    for identity, path in logs.items():
        if identity not in rows:
            rows[identity] = {**path_facts(path), "id": identity, "hosts": [], "log": path}
    return sorted(rows.values(), key=lambda row: str(row["time"]))


def running(held: LockInfo) -> dict[str, Any]:
    """A line of the history for the run that is at work."""
    since = datetime.datetime.fromtimestamp(held.since, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {"id": held.id, "time": since, "verb": held.verb, "result": "running", "who": held.who}
    return {**said, "from": held.source, "release": None}


def path_facts(path: str) -> dict[str, Any]:
    """What the name of a log says of a run that no host has written down: it was refused, cut, or changed nothing."""
    stamp, _, verb = Path(path).stem.split("-")
    time = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%S").isoformat() + "Z"
    return {"time": time, "verb": verb, "result": "-", "who": runlock.who(), "from": "", "release": None}
