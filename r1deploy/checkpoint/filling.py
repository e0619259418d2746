"""The checkpoint read into the page cache of every host, before the engine that serves is stopped.

Every rank of vLLM goes through all shards, whatever it keeps of them: so each host reads all.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Literal

from r1deploy.connection import Remote, on_each
from r1deploy.observe.view import View
from r1deploy.planning.border import Count, Part, Text, shaped
from r1deploy.run import Run
from r1deploy.runlock import lost
from r1deploy.session import Lines, answer_in
from r1deploy.settings.volumes import weights_host_path
from r1deploy.units import size_of

# A bar without a terminal is a line each time it moves.
STEP_PERCENT = 10
WHY = {"memory": "no more memory is free", "time": "service.ready_timeout is over"}


class Row(Part):
    """A line of the script: how far it is, how it ended, or why it could not."""

    kind: Literal["progress", "done", "error"]
    done: Count = 0
    total: Count = 0
    before: Count = 0
    read: Count = 0
    why: Text = ""
    message: Text = ""


def row_in(line: str) -> Row | None:
    """A line of the script; None where it is none."""
    return shaped(Row, answer_in(line))


class Filling:
    """How far all hosts are, as one bar."""

    def __init__(self, run: Run) -> None:
        self._run, self._lock = run, threading.Lock()
        self._rows: dict[str, Row] = {}

    def take(self, host: str, row: Row) -> None:
        """Take a host's row."""
        with self._lock:
            self._rows[host] = row
            total = sum(each.total for each in self._rows.values())
            percent = 100 * sum(each.done for each in self._rows.values()) // max(total, 1)
            self._run.bar("reading the weights ahead", percent // STEP_PERCENT * STEP_PERCENT, 100)


def fill(run: Run, view: View) -> None:
    """Read what memory and time allow on every host, and say what came. Raises UnreachableError, LockedError."""
    folder = weights_host_path(run.settings)
    if folder is None:
        return
    filling = Filling(run)
    order = {"folder": folder, "seconds": run.settings.service.ready_timeout}

    def one(remote: Remote) -> tuple[str, Row | None]:
        last: list[Row] = []

        def take(line: str) -> None:
            if run.lost:
                raise lost(view.desired.head.name)
            row = row_in(line)
            if row and row.kind == "progress":
                filling.take(remote.name, row)
            elif row:
                last[:] = [row]

        remote.script("readahead", order, Lines(take).write)
        return remote.name, last[0] if last else None

    for line in sentences(dict(on_each([run.remote(view, host.name) for host in view.desired.hosts], one))):
        run.say(line)


def sentences(ended: Mapping[str, Row | None]) -> list[str]:
    """What came of it: one sentence for all hosts that have the whole checkpoint, one for each other."""
    whole = [row for row in ended.values() if row and row.kind == "done" and not row.why and row.total]
    read = size_of(sum(row.read for row in whole))
    count = f"{len(whole)} host{'s' if len(whole) > 1 else ''}"
    rows = [f"the weights are in the page cache of {count}; {read} were read"] if whole else []
    for name, row in ended.items():
        if row is None or row.kind != "done":
            rows.append(f"{name}: the weights are not read ahead: {row.message if row else 'it gave no answer'}")
        elif row.why:
            part = f"{size_of(row.before + row.read)} of {size_of(row.total)}"
            rows.append(f"{name}: {part} of the weights are in its page cache: {WHY.get(row.why, 'it ended early')}")
    return rows
