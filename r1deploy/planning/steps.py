"""The steps, in the order in which they run: step = group = role = variable prefix = test; and their lanes."""

from __future__ import annotations

from collections.abc import Mapping

STEPS: tuple[str, ...] = (
    "host",
    "image",
    "container",
    "sources",
    "patch",
    "vllm",
    "install",
    "trust",
    "config",
)
# The part of `sources` that needs no container: the clones.
CLONE = "clone"
FIRST, CLONES, BUILDER, OTHERS, JOINED = "first", "clones", "builder", "others", "joined"
# Lane → whether it is the builder's (None: of all hosts), and its steps. A host does a step in the first lane that has
# it for that host. `first` goes before all; `clones` (while the image comes), `builder` and `others` run side by side;
# `joined` begins when they have ended: there the trees travel to the others.
LANES: Mapping[str, tuple[bool | None, tuple[str, ...]]] = {
    FIRST: (None, ("host",)),
    CLONES: (True, (CLONE,)),
    BUILDER: (True, ("image", "container", "sources", "patch", "vllm")),
    OTHERS: (False, ("image", "container")),
    JOINED: (None, ("sources", "vllm", "install", "trust", "config")),
}
# Step → the hosts on which it has work.
Work = Mapping[str, tuple[str, ...]]


def divided(work: Work, builder: str) -> dict[str, Work]:
    """The work of each lane; a lane without work is empty. In: the work of all, the builder's name."""
    taken: set[tuple[str, str]] = set()
    lanes: dict[str, Work] = {}
    for lane, (builds, steps) in LANES.items():
        mine = {
            (step, host)
            for step in steps
            for host in work.get(step, ())
            if builds in (None, host == builder) and (step, host) not in taken
        }
        taken |= mine
        rows = {step: tuple(host for host in work.get(step, ()) if (step, host) in mine) for step in steps}
        lanes[lane] = {step: hosts for step, hosts in rows.items() if hosts}
    return lanes


def apart(lanes: Mapping[str, Work]) -> bool:
    """Whether two lanes are worth it: the builder builds, while others have work of their own."""
    return bool(lanes[OTHERS]) and bool(lanes[BUILDER].keys() - set(LANES[OTHERS][1]))


def left_of(work: Work, *done: Work) -> Work:
    """What is left of work once parts of it are done."""
    rows = {step: tuple(host for host in hosts if not _in(done, step, host)) for step, hosts in work.items()}
    return {step: hosts for step, hosts in rows.items() if hosts}


def _in(parts: tuple[Work, ...], step: str, host: str) -> bool:
    return any(host in part.get(step, ()) for part in parts)
