"""Probe the hosts and compare: what plan, preflight, bootstrap, serve and status all begin with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from r1deploy import content
from r1deploy.errors import UsageError
from r1deploy.inputs.locking import need, resolve, resolved
from r1deploy.observe.context import Context
from r1deploy.observe.probing import Probed, probe
from r1deploy.planning.desired import Desired
from r1deploy.planning.interfaces import AUTO
from r1deploy.planning.planner import Plan, plan
from r1deploy.planning.recorded import Record
from r1deploy.planning.release import Inputs, release_of
from r1deploy.planning.settingtexts import Texts, causes, known, texts_of
from r1deploy.render import RECORD, Material, Rendered, recognized, render
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock, LockedImage, LockedPatch, LockedSource
from r1deploy.settings.model import Settings
from r1deploy.settings.secretfile import api_key
from r1deploy.voice import Say


@dataclass(frozen=True)
class View:
    """All that is known of a cluster at one moment."""

    lock: Lock
    probed: Probed
    desired: Desired
    rendered: Rendered
    plan: Plan


def helper_digests() -> dict[str, str]:
    """sha256 of the scripts that go to the hosts."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(content.HELPERS.glob("r1*.py"))}


def lock_of(context: Context, upgrade: frozenset[str], say: Say) -> Lock:
    """The lock file, completed by what is not resolved yet; nothing is written."""
    return resolve(context.settings, lockfile.read(context.lock_path), upgrade, say)


def placeholder(settings: Settings) -> Lock:
    """A lock for looking at hosts while the real one cannot be resolved: its release is on no host."""
    nothing = "0" * 40
    return Lock(
        version=1,
        flaggems=LockedSource(url=settings.flaggems.url, ref=settings.flaggems.ref, commit=nothing),
        flagscale=LockedSource(url=settings.flagscale.url, ref=settings.flagscale.ref, commit=nothing),
        patch=LockedPatch(commit=settings.patch.commit, ciphertexts={}),
    )


def lock_of_any(context: Context, say: Say) -> Lock:
    """The lock, or a placeholder where upstream cannot be asked: to look, stop or reset nobody needs upstream."""
    lock, problems = resolved(context.settings, lockfile.read(context.lock_path), frozenset(), lambda _: None)
    for problem in problems:
        say(f"not resolved: {problem.message} ({problem.code})")
    return placeholder(context.settings) if problems else lock


def inputs_of(lock: Lock) -> Inputs:
    """A lock in the planner's terms."""
    flaggems, flagscale, patch = need(lock)
    return Inputs(lock.image.id if lock.image else None, flaggems.commit, flagscale.commit, patch.ciphertexts)


def desire(settings: Settings, lock: Lock, probed: Probed) -> tuple[Desired, Rendered]:
    """What settings and lock ask for on these hosts."""
    inputs = inputs_of(lock)
    release = release_of(settings, inputs)
    nics = {name: seen.net.nic for name, seen in probed.observed.items()}
    key = api_key(settings.service.api_key_file) if settings.service.api_key_file else None
    material = Material(settings, probed.hosts, release, inputs, nics, key)
    rendered = render(material)
    known = AUTO not in settings.env.values() or all(host.name in nics for host in probed.hosts)
    if not known:
        states = [seen.state.releases.get(release.id) for seen in probed.observed.values()]
        records = [record for state in states if state for record in state.records.values() if record]
        same = recognized(material, records)
        rendered, known = same or rendered, same is not None
    wanted = Desired(
        settings,
        probed.hosts,
        inputs.image_id,
        inputs.flaggems_commit,
        inputs.flagscale_commit,
        release,
        rendered.id if known else None,
        rendered.wanted(),
        helper_digests(),
        lock.image.arch if lock.image else None,
        lock.image.packed if lock.image else None,
        lock.image.digests if lock.image else (),
    )
    return wanted, rendered


def look(context: Context, lock: Lock) -> View:
    """Probe and plan. An image without a locked id is taken as the head's, where it has one."""
    release = release_of(context.settings, inputs_of(lock))
    empty = Desired(context.settings, (), None, "", "", release, "", {}, {})
    probed = probe(context.target, context.settings, tuple(empty.folders))
    check_builder(context.settings, probed)
    if lock.image is None:
        adopted = adopt(context.settings, lock, probed)
        if adopted is not None:
            return look(context, adopted)
    desired, rendered = desire(context.settings, lock, probed)
    return View(lock, probed, desired, rendered, plan(desired, probed.observed))


def run_of(view: View) -> dict[str, Any] | None:
    """Who holds the cluster, as far as the head says so."""
    head = view.probed.observed.get(view.desired.head.name)
    return head.lock.model_dump(by_alias=True) if head and head.lock else None


def beside(view: View) -> View:
    """The view of somebody who only looks: while a run is at work, what it has laid down is not left over."""
    if run_of(view) is None:
        return view
    files = {(host, path) for host, seen in view.probed.observed.items() for path in seen.state.leftovers}
    changes = tuple(row for row in view.plan.changes if (row.host, row.field) not in files)
    return replace(view, plan=replace(view.plan, changes=changes))


def record_of(view: View) -> Record:
    """The record of what the settings ask for, as it was rendered for the hosts."""
    return Record.model_validate_json(view.rendered.files[view.desired.head.name][RECORD])


def texts_in(view: View, record: Record) -> Texts | None:
    """The settings of a release: ours where it is the wanted one, else as ``serve`` wrote them down."""
    wanted = f"{record.release}/{record.config}" == view.desired.name
    return texts_of(view.desired.settings) if wanted else known(view.plan.serving.active, record)


def between(view: View, old: Record, new: Record) -> tuple[str, ...]:
    """What two releases differ in, a line each."""
    return causes(old, new, texts_in(view, old), texts_in(view, new))


def adopt(settings: Settings, lock: Lock, probed: Probed) -> Lock | None:
    """A lock with the id of the image that the builder has under the wanted name."""
    name = settings.builder or probed.hosts[0].name
    seen = probed.observed.get(name)
    if seen is None or seen.image is None:
        return None
    manifest = next((digest for digest in seen.image.digests if digest != seen.image.id), None)
    image = LockedImage(name=settings.image.name, id=seen.image.id, manifest=manifest)
    return lock.model_copy(update={"image": image})


def check_builder(settings: Settings, probed: Probed) -> None:
    """The builder is a host of the inventory."""
    names = [host.name for host in probed.hosts]
    if settings.builder and settings.builder not in names:
        message = f"builder: {settings.builder} is not in the inventory ({', '.join(names)})"
        raise UsageError("BUILDER_UNKNOWN", message, fix="set builder to an inventory name, or leave it out")


def limited(view: View, limit: str | None) -> View:
    """Only the changes of some hosts; the head is always among them. Raises UsageError."""
    if limit is None:
        return view
    names = [host.name for host in view.desired.hosts]
    wanted = [name for name in limit.split(",") if name]
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        message = f"--limit {limit}: no host {', '.join(unknown) or 'named'}"
        raise UsageError("LIMIT_EMPTY", message, fix=f"hosts are: {', '.join(names)}")
    if view.desired.head.name not in wanted:
        message = f"--limit {limit} leaves out the head {view.desired.head.name}"
        raise UsageError("LIMIT_WITHOUT_HEAD", message, fix=f"--limit {view.desired.head.name},{limit}")
    changes = tuple(row for row in view.plan.changes if row.host in wanted)
    return replace(view, plan=replace(view.plan, changes=changes))
