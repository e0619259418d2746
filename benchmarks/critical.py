"""The critical path of a bootstrap, from its event log: the least time that the order of its work allows. Pure.

A piece is what one host does for one step. Its time is the sum of its tasks, each from the task's start to this host's
answer: waiting for slower hosts is no part of it. NEEDS says which pieces a piece cannot begin without; everything else
could be done beside it. On a machine that plays several hosts, pieces that run at once share its cores, so the path is
that of the run as it was, and not of real hosts.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENDS = ("ok", "changed", "failed")
# The lane in which the builder clones while its image comes.
CLONES = "clones"
# From this task on, the builder's part of `sources` needs its container.
WHEEL = "Build the wheel of FlagGems"
BUILDER, WORKER = "builder", "worker"
# Piece of a role → pieces it needs: of the same host where no role is named. What is not in a log takes no time.
NEEDS: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "": {
        "host": (),
        "image": (("host", ""),),
        "container": (("image", ""),),
        "config": (("host", ""),),
    },
    BUILDER: {
        "clone": (("host", ""),),
        "sources": (("clone", ""), ("container", "")),
        "patch": (("sources", ""),),
        "vllm": (("patch", ""),),
        "ship sources": (("sources", ""),),
        "ship vllm": (("vllm", ""),),
        "install": (("vllm", ""),),
        "trust": (("host", ""),),
    },
    WORKER: {
        "sources": (("host", ""), ("ship sources", BUILDER)),
        "vllm": (("host", ""), ("ship vllm", BUILDER)),
        "install": (("container", ""), ("sources", ""), ("vllm", "")),
        "trust": (("host", ""), ("trust", BUILDER)),
    },
}


@dataclass(frozen=True, order=True)
class Piece:
    """What a host does for a step."""

    step: str
    host: str


@dataclass(frozen=True)
class Path:
    """The longest chain of pieces that need one another, and its seconds."""

    seconds: float
    pieces: tuple[Piece, ...]


def longest(seconds: Mapping[Piece, float], needs: Mapping[Piece, Sequence[Piece]]) -> Path:
    """The critical path. In: what each piece takes, and which ones it needs. Raises graphlib.CycleError."""
    best: dict[Piece, Path] = {}
    for piece in graphlib.TopologicalSorter(needs).static_order():
        before = max(
            (best[other] for other in needs.get(piece, ())), key=lambda path: path.seconds, default=Path(0, ())
        )
        taken = seconds.get(piece, 0.0)
        best[piece] = Path(before.seconds + taken, (*before.pieces, piece) if taken else before.pieces)
    return max(best.values(), key=lambda path: path.seconds, default=Path(0, ()))


def needs_of(hosts: Sequence[str], builder: str) -> dict[Piece, tuple[Piece, ...]]:
    """The pieces of a bootstrap on these hosts, and what each needs; the builder is the head too."""
    needs = {}
    for host in hosts:
        for step, rows in (NEEDS[""] | NEEDS[BUILDER if host == builder else WORKER]).items():
            needs[Piece(step, host)] = tuple(Piece(other, builder if role else host) for other, role in rows)
    return needs


def seconds_of(rows: Sequence[Mapping[str, Any]], builder: str) -> dict[Piece, float]:
    """What each piece took. In: the rows of an event log, in their order."""
    taken: dict[Piece, float] = {}
    for step, host, task, seconds, again in durations(rows):
        piece = Piece(part(step, task, again, taken) if host == builder else step, host)
        taken[piece] = taken.get(piece, 0.0) + seconds
    return taken


def part(step: str, task: str, again: bool, taken: Mapping[Piece, float]) -> str:
    """The builder's piece: its steps have parts that need different things. ``again``: the step has a later play."""
    if again and step in ("sources", "vllm"):
        return f"ship {step}"
    if step == "sources" and task != WHEEL and not any(piece.step == "sources" for piece in taken):
        return "clone"
    return step


def durations(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, float, bool]]:
    """Each answer of a host: step, host, task, seconds since the task began, whether in a later play of the step.

    Lanes play at once: a play is one of its lane's. What a host clones beside its image comes before all of its plays.
    """
    begun: dict[tuple[Any, ...], float] = {}
    plays: dict[tuple[Any, str], int] = {}
    first: dict[tuple[str, str], tuple[Any, int]] = {}
    for row in rows:
        step, task, host, lane = row["step"], row["task"], row["host"], row.get("lane")
        key = (lane, step, task)
        if row["kind"] == "play":
            plays[lane, step] = plays.get((lane, step), 0) + 1
        elif row["kind"] == "task":
            begun[key] = row["time"]
        elif row["kind"] in ENDS and host and key in begun:
            play = (lane, plays.get((lane, step), 0))
            again = lane != CLONES and play != first.setdefault((step, host), play)
            yield step, host, task, row["time"] - begun[key], again


def of_run(rows: Sequence[Mapping[str, Any]], wall: float, builder: str) -> Path:
    """The critical path of a whole run, what goes before and after its events with it.

    In: the rows of its event log; its seconds of wall. Raises ValueError where a step has no place in NEEDS.
    """
    rows = [row for row in rows if "kind" in row]
    taken = seconds_of(rows, builder)
    needs = needs_of(sorted({piece.host for piece in taken}), builder)
    unknown = sorted({piece.step for piece in taken.keys() - needs.keys()})
    if unknown:
        raise ValueError(f"NEEDS does not say what these need: {', '.join(unknown)}")
    times = [row["time"] for row in rows]
    around = wall - (max(times) - min(times)) if times else wall
    path = longest(taken, needs)
    return Path(path.seconds + around, path.pieces)
