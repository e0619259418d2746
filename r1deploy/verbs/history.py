"""The history of runs: what the hosts have written down, and the logs that are here."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from r1deploy import runlock
from r1deploy.journal import logs_of
from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.view import lock_of_any, look
from r1deploy.planning.recorded import LockInfo
from r1deploy.run import Run


def history(run: Run) -> list[dict[str, Any]]:
    """Runs by time: what the hosts have written down, with the path of the log where it is on this machine.

    The run that holds the cluster is among them, as running. Of hosts that do not answer it is said that their history
    is not known. Raises UnreachableError where none answers and no log is here.
    """
    view = look(run.context, lock_of_any(run.context, run.say))
    logs = logs_of(run.settings.cluster)
    if not (view.probed.observed or logs):
        refuse_unreachable(view.probed)
    for failure in view.probed.failures.values():
        run.say(f"{failure.host}: {failure.message} ({failure.code}); its history is not known")
    rows: dict[str, dict[str, Any]] = {}
    for host, seen in view.probed.observed.items():
        for line in seen.state.history:
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
    """What a log's name says of a run that no host has written down: refused, interrupted, or nothing changed."""
    stamp, _, verb = Path(path).stem.split("-")
    time = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%S").isoformat() + "Z"
    return {"time": time, "verb": verb, "result": "-", "who": runlock.who(), "from": "", "release": None}
