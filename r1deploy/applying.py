"""Apply a plan: the image from host to host, and the steps in two lanes that join before the trees travel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from r1deploy.ansible.folder import run_folder
from r1deploy.ansible.runner import Play
from r1deploy.errors import ApplyError, R1Error
from r1deploy.fanout.logged import logged
from r1deploy.fanout.spreading import Load, Told, spread
from r1deploy.fanout.treetravel import bring_trees, receivers
from r1deploy.inputs.key import key_file
from r1deploy.inputs.locking import password_file
from r1deploy.observe.view import View
from r1deploy.onhost.enginesocket import SOCKET
from r1deploy.planning.planner import Plan
from r1deploy.planning.rolevars import Brought, groups, host_vars, role_vars
from r1deploy.planning.steps import BUILDER, CLONE, CLONES, FIRST, JOINED, OTHERS, Work, apart, divided, left_of
from r1deploy.run import Run
from r1deploy.units import size_of


def apply(run: Run, view: View, steps: tuple[str, ...]) -> None:
    """Run the steps that have work. Raises ApplyError."""
    Applying(run, view, steps).go()


class Applying:
    """One plan on its way: what runs beside what, and what waits for what."""

    def __init__(self, run: Run, view: View, steps: tuple[str, ...]) -> None:
        self._run, self._view, self._steps = run, view, steps
        self._load = load_of(view) if "image" in steps else None
        self._builder = view.desired.builder.name
        self._work = work = work_of(view.plan, steps, self._builder)
        self._lanes = divided(work, self._builder)
        # Set once a host has its image, and once the builder has its clones.
        brought = work.get("image", ()) if self._load else (self._builder,) if self._lanes[CLONES] else ()
        self._images = {host: threading.Event() for host in brought}
        self._cloned = threading.Event()

    def go(self) -> None:
        """All of it. Raises ApplyError, and what ``Lanes.run`` raises."""
        two = apart(self._lanes)
        beside = [*self._images_and_clones(), *([self._build, self._prepare] if two else [])]
        done = (FIRST, CLONES, BUILDER, OTHERS) if two else (FIRST, CLONES)
        if beside:
            self._play(self._lanes[FIRST])
            self._run.side_by_side(beside)
        left = left_of(self._work, *(self._lanes[lane] for lane in done if beside))
        if receivers(self._view, self._steps):
            # The builder's part first, where it is left: then there is something to travel.
            before = left_of(left, self._lanes[JOINED])
            self._play(before)
            bring_trees(self._run, self._view, self._steps)
            left = left_of(left, before)
        self._play(left)

    def _images_and_clones(self) -> list[Callable[[], None]]:
        """What brings the image where it is not a step of a lane, and the clones beside it."""
        image = [self._bring] if self._load else [self._pull] if self._images else []
        return [*image, *([self._clone] if self._lanes[CLONES] else [])]

    def _bring(self) -> None:
        assert self._load is not None
        bring_image(self._run, self._view, self._load, self._settled)

    def _settled(self, host: str, error: R1Error | None) -> None:
        """A host has its image, or did not get it: then nothing new begins anywhere."""
        (self._run.lanes.failed if error else self._images[host]).set()

    def _pull(self) -> None:
        """The builder's image from the registry, while it clones."""
        self._play({"image": (self._builder,)}, BUILDER)
        self._images[self._builder].set()

    def _clone(self) -> None:
        self._play(self._lanes[CLONES], CLONES)
        self._cloned.set()

    def _build(self) -> None:
        """The builder's lane, once its image and its clones are there."""
        clones = [self._cloned] if self._lanes[CLONES] else []
        image = [event for host, event in self._images.items() if host == self._builder]
        self._run.lanes.wait_for(*image, *clones)
        self._play(self._lanes[BUILDER], BUILDER)

    def _prepare(self) -> None:
        """The others' lane, once all of them have their image."""
        self._run.lanes.wait_for(*(event for host, event in self._images.items() if host != self._builder))
        self._play(self._lanes[OTHERS], OTHERS)

    def _play(self, work: Work, lane: str = "") -> None:
        if work:
            play(self._run, self._view, work, cloned=self._cloned.is_set(), lane=lane)


def work_of(plan: Plan, steps: tuple[str, ...], builder: str) -> Work:
    """The hosts of the steps that have work; the clones apart where the builder waits for its image meanwhile."""
    work = {step: plan.hosts_of(step) for step in steps if plan.hosts_of(step)}
    if builder in work.get("image", ()) and builder in work.get("sources", ()):
        work[CLONE] = (builder,)
    return work


def play(run: Run, view: View, work: Work, *, cloned: bool, lane: str) -> None:
    """The playbook, for this work. In: whether this run has cloned already; the lane. Raises ApplyError."""
    desired, observed = view.desired, view.probed.observed
    with run_folder() as folder:
        files = folder / "files"
        view.rendered.write(files)
        brought = replace(brought_for(view, str(folder / "staging"), "patch" in work), cloned=cloned)
        wanted = Play(
            "bootstrap.yml",
            groups=groups(desired, work),
            variables=role_vars(desired, brought, observed),
            host_vars=host_vars(desired, view.plan, observed, str(files)),
            folder=folder,
            lane=lane,
        )
        run.apply(desired, wanted)


def load_of(view: View) -> Load | None:
    """The tarball for the hosts that lack the image; None where none lacks it, or it comes from a registry."""
    image, locked = view.desired.settings.image, view.lock.image
    if not view.plan.hosts_of("image") or image.tarball is None or locked is None or locked.tarball_sha256 is None:
        return None
    path = Path(image.tarball)
    sink = {"socket": SOCKET, "name": image.name}
    return Load(path, path.stat().st_size, locked.tarball_sha256, sink)


def bring_image(run: Run, view: View, load: Load, settled: Callable[[str, R1Error | None], None]) -> None:
    """The tarball, from host to host into the engines of those that lack the image; the role then finds it right.

    In: who is told of each host's end. Raises ApplyError of the first host that failed, after all have ended.
    """
    lacking, builder, head = view.plan.hosts_of("image"), view.desired.builder.name, view.desired.head.name
    # The builder first: the steps after it wait for it most.
    hosts = sorted((row for row in view.desired.hosts if row.name in lacking), key=lambda row: row.name != builder)
    ways = {host.name: run.context.way(view.probed, host.name) for host in hosts}
    lanes = run.lanes

    def end(host: str, error: R1Error | None) -> None:
        heard(host, error)
        settled(host, error)

    def check() -> None:
        lanes.may_go_on()
        run.refuse_lost(head)

    names = ", ".join(host.name for host in hosts)
    run.say(f"image: {load.path.name} ({size_of(load.size)}) goes from host to host: {names}")
    heard = logged(run, "image", [host.name for host in hosts], "failed")
    ended = spread(ways, hosts, load, Told(run.say, run.bar, check, end))
    errors = [error for error in ended.values() if error is not None]
    if errors:
        first, *others = errors
        fix = first.fix or "mend the cause and run the same command again: finished work is kept"
        evidence = [*first.evidence, *(other.message for other in others)]
        raise ApplyError(first.code, first.message, host=first.host, evidence=evidence, fix=fix, log=run.log)


def brought_for(view: View, staging: str, with_key: bool) -> Brought:
    """What the controller brings. In: whether the path of the vendor's key is given (its content never is)."""
    settings, lock = view.desired.settings, view.lock
    key = key_file(settings) if with_key else None
    return Brought(
        staging,
        key_file=str(key or ""),
        password_file=str(password_file(settings) or ""),
        tarball_sha256=(lock.image.tarball_sha256 if lock.image else None) or "",
        ciphertexts=lock.patch.ciphertexts if lock.patch else {},
    )
