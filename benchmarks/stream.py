"""A command's output through `r1deploy exec`, against plain ssh with the same command."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Cases, Found
from benchmarks.ownlab import OwnLab, own_lab
from benchmarks.rounds import Turns, Way, in_turn
from benchmarks.site import R1DEPLOY

LINE = "a line of a log, as long as lines of logs are, more or less, up to this point"
SIZES_MIB = (64, 256, 1024)
CONTAINER = "flagrelease_bi"
NOTES = ["The command prints lines in the container of one lab host; its text goes to no terminal."]


def measure(folder: Path, rounds: int, _: tuple[int, ...], say: Callable[[str], None]) -> Found:
    """All sizes. In: an empty folder."""
    cases: Cases = {}
    with own_lab(folder) as lab:
        lab.up(1)
        lab.take_settings()
        lab.r1("bootstrap", "inventory.ini", "--yes")
        lab.r1("serve")
        for mib in SIZES_MIB:
            say(f"output of {mib} MiB")
            cases[f"{mib} MiB"] = in_turn(ways(lab, mib), Turns(rounds, say))
    return Found(cases, NOTES)


def ways(lab: OwnLab, mib: int) -> dict[str, Way]:
    """Both ways for an output of this size."""
    name, address = next(iter(lab.hosts().items()))
    command = ["sh", "-c", f"yes '{LINE}' | head -c {mib}M"]
    plain = [*lab.ssh(address), shlex.join(["docker", "exec", CONTAINER, *command])]
    exec_ = [*R1DEPLOY, "exec", "--host", name, "--", *command]
    return {"ssh": Way([plain], lab.site), "exec": Way([exec_], lab.site, env=lab.env)}
