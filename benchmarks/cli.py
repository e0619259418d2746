"""Commands on two hosts, as an operator waits for them, and the memory of the controller at 64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Found
from benchmarks.rerun import hosts
from benchmarks.rounds import Turns, Way, in_turn
from benchmarks.site import R1DEPLOY

FEW, MANY = 2, 64
# `status` says by its exit code too that nothing serves.
NOT_SERVING = (0, 1, 5, 6, 7)
NOTES = [
    "The hosts are those of the re-run: nothing is deployed on them.",
    "MiB of all: all processes of the controller together, what they share counted once, ten looks a second. The looks "
    "take time too: the wall of that row is not for comparison.",
]


def measure(folder: Path, rounds: int, sizes: tuple[int, ...], say: Callable[[str], None]) -> Found:
    """Both. In: an empty folder; sizes without 64 leave the memory out."""
    turns = Turns(rounds, say)
    say(f"commands, {FEW} hosts")
    with hosts(folder / str(FEW), FEW) as bench:
        ways = {
            "--help": Way([[*R1DEPLOY, "--help"]], bench.site),
            "status --json": Way([[*R1DEPLOY, "status", "--json"]], bench.site, codes=NOT_SERVING),
            "plan": bench.r1deploy(),
        }
        cases = {str(FEW): in_turn(ways, turns)}
    if MANY in sizes:
        say(f"memory, {MANY} hosts")
        with hosts(folder / str(MANY), MANY) as bench:
            plan = Way([[*R1DEPLOY, "plan"]], bench.site, whole=True)
            cases[str(MANY)] = in_turn({"plan": plan}, turns)
    return Found(cases, NOTES)
