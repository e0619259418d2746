"""The built trees, from the builder to the hosts that lack them; the role then finds them right.

What the role ``tree`` does by itself goes through the controller, host by host. It stays for hosts that the others do
not reach, and for plain Ansible.
"""

from __future__ import annotations

from collections.abc import Sequence

from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, PreflightError, UnreachableError
from r1deploy.fanout.bringing import Bringing, Ended, Files
from r1deploy.fanout.logged import logged
from r1deploy.fanout.spreading import Told
from r1deploy.observe.view import View
from r1deploy.planning.layout import list_file
from r1deploy.run import Run
from r1deploy.sshprocess import SshProcess

# Not a part of what was built: as in the role.
SKIP = (".git", "__pycache__")


def receivers(view: View, steps: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The hosts besides the builder that lack its tree, by step; steps without such hosts are left out."""
    builder = view.desired.builder.name
    found = {step: view.plan.hosts_of(step) for step in ("sources", "vllm") if step in steps}
    others = {step: tuple(name for name in names if name != builder) for step, names in found.items()}
    return {step: names for step, names in others.items() if names}


def bring_trees(run: Run, view: View, steps: Sequence[str]) -> None:
    """Bring what the builder has built to the others. Who does not get it is named: the role brings it.

    Raises LockedError LOCK_LOST, Stopped.
    """
    wanted: dict[tuple[str, ...], tuple[str, ...]] = {}
    # Both trees are one stream for the hosts that lack both; in the log it is the later step's.
    steps_of: dict[tuple[str, ...], str] = {}
    for step, names in receivers(view, steps).items():
        wanted[names] = (*wanted.get(names, ()), *parts_of(view, step))
        steps_of[names] = step
    for names, parts in wanted.items():
        hosts = [host for host in view.desired.hosts if host.name in names]
        heard = logged(run, steps_of[names], names, "skipped")
        ended = brought(run, view, hosts, parts)
        for name, error in ended.items():
            heard(name, error)
        missed = [name for name, error in ended.items() if error is not None]
        if missed:
            run.say(f"trees: {', '.join(missed)}: they come through the controller instead")


def parts_of(view: View, step: str) -> tuple[str, ...]:
    """What a step's tree consists of, below the folder of all trees; the manifest last: with it the tree is whole."""
    release = view.desired.release
    tree = release.flaggems if step == "sources" else release.flagscale
    return tuple(f"{tree.name}/{part}" for part in (*tree.parts, "manifest.json"))


def brought(run: Run, view: View, hosts: Sequence[Host], parts: tuple[str, ...]) -> Ended:
    """Bring parts to hosts; why a host did not get them, where it did not."""
    desired = view.desired
    files = Files("trees", desired.layout.trees, parts, list_file(run.settings.cluster, "trees"), SKIP, parts)
    told = Told(run.say, run.bar, lambda: run.refuse_lost(desired.head.name))

    def way_to(host: Host) -> SshProcess:
        return run.context.way(view.probed, host.name)

    try:
        return Bringing(way_to, desired.builder, files, told).run(hosts)
    except (ApplyError, PreflightError, UnreachableError) as error:
        run.say(f"trees: {error.message} ({error.code})")
        return {host.name: error for host in hosts}
