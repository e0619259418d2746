"""bootstrap never touches the running service: which changes would, and what serves there."""

from __future__ import annotations

from collections.abc import Iterator

from r1deploy.planning.changes import UNPAUSED, Change
from r1deploy.planning.desired import Desired
from r1deploy.planning.findings import BOOTSTRAP, Check, failed
from r1deploy.planning.observed import Observed
from r1deploy.planning.steplooks import Look
from r1deploy.planning.whatserves import in_use, pids_in


def busy(look: Look, changes: list[Change]) -> Iterator[Check]:
    """bootstrap never touches the running service: what would recreate or rebuild under it is refused."""
    for host in look.desired.hosts:
        seen = look.observed.get(host.name)
        if seen is None:
            continue
        mine = [row for row in changes if row.host == host.name]
        for name, (pid, what) in disturbed(look, seen, mine).items():
            said = f"{name} serves (pid {pid}); {' and '.join(what)} would disturb it"
            fix = "r1deploy stop, then bootstrap"
            row = failed("SERVICE_RUNNING", "running service", said, fix, BOOTSTRAP)
            yield row.at(host.name)


def disturbed(look: Look, seen: Observed, changes: list[Change]) -> dict[str, tuple[int, list[str]]]:
    """What serves on a host and would be disturbed: container → a pid in it, and by what."""
    hit: dict[str, tuple[int, list[str]]] = {}
    container = look.container_on(seen)
    inside = pids_in(seen, container.name) if container else []
    steps = {row.step for row in changes if row.step in ("container", "install") and row.reason != UNPAUSED}
    if container and inside and steps:
        hit[container.name] = (inside[0], sorted(steps))
    used = in_use(seen)
    for row in changes:
        tree = rebuilds(look.desired, row)
        if tree in used:
            name, pid = used[tree]
            said = f"{row.step} (the tree {tree})"
            more = hit.setdefault(name, (pid, []))[1]
            more += [said] if said not in more else []
    return hit


def rebuilds(desired: Desired, change: Change) -> str | None:
    """The tree that a change builds or brings anew."""
    release = desired.release
    if change.step == "sources" and change.field != "FlagScale":
        return release.flaggems.name
    return release.flagscale.name if change.step in ("sources", "patch", "vllm") else None
