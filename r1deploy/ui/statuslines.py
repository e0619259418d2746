"""The cluster's state for people."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from r1deploy.cluster.alike import alike
from r1deploy.cluster.ranges import FEWEST, spoken
from r1deploy.ui.lines import table, width, wrap
from r1deploy.units import duration


def status_lines(status: dict[str, Any]) -> list[str]:
    """The cluster's state, as ``verbs.status`` gives it, for people."""
    rows = [
        f"cluster   {status['cluster']}",
        f"release   {status['release']}, configuration {status['config'] or 'unknown'}",
        *wrap(active_sentence(status), "active    ", " " * 10),
        *wrap(service_sentence(status), "service   ", " " * 10),
    ]
    if status["answer"]:
        rows += wrap(status["answer"]["text"], "answer    ", " " * 10)
    if status["last_answer"]:
        age = time.time() - datetime.datetime.fromisoformat(status["last_answer"]).timestamp()
        rows.append(f"answered  {duration(max(age, 0))} ago")
    rows += diag_lines(status["diag"])
    if status["endpoint"]:
        rows.append(f"endpoint  {status['endpoint']} ({status['ray_nodes']}/{status['nodes']} Ray nodes)")
    for mine, problem in alike(tuple(row.partition(": ")[::2]) for row in status["problems"]):
        rows += wrap(f"{spoken(mine)}: {problem}", "problem   ", " " * 10)
    if status["run"]:
        rows.append(f"run       {status['run']['who']} runs {status['run']['verb']}, now at {status['run']['doing']}")
    return [*rows, "", *host_table(status["hosts"])]


def diag_lines(standings: Iterable[dict[str, Any]]) -> list[str]:
    """What ``diag`` last found, a row a part, or one where it never ran. In: ``diag`` of ``verbs.status``."""
    from r1deploy.planning.diagrecord import Standing, status_rows

    said = status_rows([Standing(**row) for row in standings], time.time())
    return [line for at, row in enumerate(said) for line in wrap(row, " " * 10 if at else "diag      ", " " * 12)]


def host_table(hosts: Iterable[dict[str, Any]]) -> list[str]:
    """What is done and due of each step, chips, Ray: a row a host; where many are equal, a row for them together.

    Then the rows that are unlike the others come first.
    """
    from r1deploy.planning.steps import STEPS

    found, silent = [(host["name"], tuple(cells_of(host, STEPS))) for host in hosts], []
    for mine, text in alike((host["name"], f"{host['error']}: {host['detail']}") for host in hosts if host["error"]):
        silent += wrap(f"{spoken(mine)}  {text}", "", "  ")
    rows = equal_rows(found)
    head = ["host", *STEPS, "chips", "ray"]
    room = width() - len(" ".join(head[1:])) - 1
    fits = [len(names) <= room for names, _ in rows]
    drawn = table([head, *([names if fit else "", *cells] for (names, cells), fit in zip(rows, fits, strict=True))])
    whole = [drawn[0]]
    for (names, _), fit, line in zip(rows, fits, drawn[1:], strict=True):
        # Names that are wider than their column have a line of their own above it.
        whole += [*([] if fit else wrap(names, "", "")), line]
    return [*whole, *silent]


def cells_of(host: dict[str, Any], steps: Iterable[str]) -> Iterator[str]:
    """One host's cells behind its name."""
    if host["error"]:
        yield from [*("?" for _ in steps), "?", "?"]
        return
    yield from (MARKS[host["steps"][step]] for step in steps)
    yield str(host["chips"])
    yield "up" if host["ray"] else "-"


def equal_rows(found: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    """Names and cells: hosts with the same cells in one row, the fewest first; two hosts each have their own."""
    if len(found) < FEWEST:
        return list(found)
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, cells in found:
        groups.setdefault(cells, []).append(name)
    rows = sorted(groups.items(), key=lambda row: len(row[1]))
    return [(spoken(mine), cells) for cells, mine in rows]


def active_sentence(status: dict[str, Any]) -> str:
    """The release that is active, since when, and whether the gate has seen it serve."""
    active = status["active"]
    if not active:
        silent = spoken(status["unknown"])
        return f"unknown: no answer from {silent}" if silent else "none"
    doubt = "" if active["proven"] else " (not verified)"
    return f"{active['release']}/{active['config']} since {active['since']}{doubt}"


MARKS = {True: "ok", False: "due", None: "?"}
SERVICE = {
    "unknown": "unknown",
    "stopped": "not serving",
    "starting": "starting: it does not answer yet",
    "no answer": "not serving: the engine lives, its port gives no answer",
    "no token": "not serving: the port is healthy, but gives no token",
    "incomplete": "not serving: see the problems",
}


def service_sentence(status: dict[str, Any]) -> str:
    """The service in a sentence."""
    if status["serving"]:
        return f"serves {', '.join(status['models'])}"
    silent = spoken(status["unknown"])
    return f"{SERVICE[status['service']]}: no answer from {silent}" if silent else SERVICE[status["service"]]
