"""Several ways of doing one thing, measured in turn: a busy machine is busy for all of them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Rows

RUNNER = Path(__file__).with_name("runner.py")
LONGEST_SECONDS = 1800
END_SECONDS = 30
# Of what a command said, when it fails.
SHOWN = 2000
MEASURED = ("wall", "cpu", "memory_mib", "memory_all_mib")


def nothing() -> None:
    """Do nothing."""


def no_counters() -> dict[str, float]:
    """Count nothing."""
    return {}


@dataclass(frozen=True)
class Around:
    """What is done before and after a way, and not measured."""

    before: Callable[[], object] = nothing
    after: Callable[[], object] = nothing


@dataclass(frozen=True)
class Way:
    """Commands that are started at once, and how they are measured.

    ``stdin``: what each reads; ``codes``: exit codes that are right, empty: all; ``also``: processes that were there
    before and whose CPU counts; ``env``: the whole environment, None: ours; ``wall``: seconds of the part that counts,
    where that is not all of it; ``whole``: the memory of all its processes together is looked at, ten times a second.
    """

    commands: Sequence[Sequence[str]]
    folder: Path
    stdin: Sequence[Path] = ()
    codes: Sequence[int] = (0,)
    also: Sequence[int] = ()
    env: Mapping[str, str] | None = None
    around: Around = Around()
    wall: Callable[[], float] | None = None
    whole: bool = False


@dataclass(frozen=True)
class Turns:
    """How often; whether one round more goes before and is thrown away; what is counted beside; who is told."""

    rounds: int
    say: Callable[[str], None] = lambda _: None
    warm_up: bool = True
    counters: Callable[[], Mapping[str, float]] = no_counters


def in_turn(ways: Mapping[str, Way], turns: Turns) -> dict[str, Rows]:
    """Measure each way so many times, round by round; returns what each took."""
    taken: dict[str, Rows] = {name: {} for name in ways}
    for number in range(0 if turns.warm_up else 1, turns.rounds + 1):
        for name, way in ways.items():
            row = counted(way, turns.counters)
            turns.say(f"  round {number} {name}: {row['wall']:.2f} s, CPU {row['cpu']:.2f} s")
            for key, value in row.items() if number else ():
                taken[name].setdefault(key, []).append(round(value, 3))
    return taken


def counted(way: Way, counters: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """Run a way once, and what the counters went up by."""
    way.around.before()
    begun = counters()
    row = measure(way)
    row |= {name: value - begun[name] for name, value in counters().items()}
    if way.wall:
        row["wall"] = way.wall()
    way.around.after()
    return row


def measure(way: Way) -> dict[str, float]:
    """Run a way once. Ends the program where a command fails or lasts too long, with what it said."""
    with tempfile.TemporaryDirectory(prefix="r1bench-out-") as name:
        sources = way.stdin or [Path("/dev/null")] * len(way.commands)
        targets = [Path(name) / str(index) for index in range(len(way.commands))]
        commands = [
            {"argv": list(argv), "stdin": str(source), "stdout": str(target)}
            for argv, source, target in zip(way.commands, sources, targets, strict=True)
        ]
        order = {"commands": commands, "folder": str(way.folder), "also": list(way.also), "whole": way.whole}
        answer = answered(order | {"seconds": LONGEST_SECONDS}, way.env)
        for argv, target, code in zip(way.commands, targets, answer["codes"], strict=True):
            if way.codes and code not in way.codes:
                said = target.read_text(encoding="utf-8", errors="replace")[-SHOWN:]
                sys.exit(f"code {code} after {answer['wall']:.0f} s: {' '.join(argv)[:200]}\n{said}")
    return {key: float(answer[key]) for key in MEASURED if key in answer}


def answered(order: Mapping[str, Any], env: Mapping[str, str] | None) -> dict[str, Any]:
    """What the runner answers; where this program is interrupted, the runner ends all that it started first."""
    runner = [sys.executable, "-I", "-S", str(RUNNER)]
    process = subprocess.Popen(runner, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        said, _ = process.communicate(json.dumps(order))
    except BaseException:
        process.terminate()
        process.wait(END_SECONDS)
        raise
    return dict(json.loads(said))
