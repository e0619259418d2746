"""Start or switch the service, pass the gate, or put the former release back."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from r1deploy.actions.bootstrap import refuse_blocked, refuse_failed
from r1deploy.actions.releases import choose, held_of
from r1deploy.actions.runs import changing, play, refuse_held
from r1deploy.errors import GateError, LockedError, PreflightError, R1Error
from r1deploy.journal import Journal
from r1deploy.observe.context import Context
from r1deploy.observe.view import View, lock_of, lock_of_any, look, record_of, refuse_unreachable
from r1deploy.planning.findings import Check
from r1deploy.planning.observed import Active, Record
from r1deploy.planning.records import Held, differences, unneeded
from r1deploy.planning.rolevars import fixed_groups
from r1deploy.serving.answers import ask, config_folder, endpoint_of, key_on_head, now
from r1deploy.serving.gate import Gate, Passed, Progress, Say
from r1deploy.signals import Stopped

# What forbids a start whatever is started; the other findings speak of what the settings ask for now.
HOST_BLOCKERS = frozenset({"FOREIGN_PROCESSES", "ENGINE_DOWN", "DRIVER_MISSING", "CHIP_SICK", "SUDO_REFUSED"})


@dataclass(frozen=True)
class Served:
    """What serve ends with; ``warnings``: who can reach the service, said once a start."""

    passed: Passed
    already: bool
    warnings: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Gap:
    """What a switch would stop, and for how long nobody is answered, going by the last start.

    ``stops`` None: nothing serves, so nothing is stopped. ``differences`` between the two, as the records know them.
    """

    stops: str | None
    starts: str
    seconds: float | None
    differences: tuple[str, ...]


Confirm = Callable[[Gap], None]


def serve(
    context: Context, confirm: Confirm, journal: Journal, say: Say, progress: Progress, *, wait: bool = False
) -> Served:
    """Serve the release that bootstrap prepared.

    In: ``confirm`` is told what would be stopped, and may refuse it. Raises PreflightError where the release is
    not whole or something forbids the start, GateError where it does not serve; then the former one serves again.
    """
    view = survey(context, say, wait=wait)
    passed = serves_already(context, view, say)
    if passed:
        return Served(passed, already=True)
    gap = agree(view, record_of(view), None, confirm)
    with changing(context, view, "serve", journal, say, wait=wait):
        view = survey(context, say, wait=True)
        agree(view, record_of(view), gap, confirm)
        passed = switch(context, view, record_of(view), journal, say, progress)
        prune(context, journal, say)
    return Served(passed, already=False, warnings=tuple(check for check in view.plan.checks if check.warning))


def survey(context: Context, say: Say, *, wait: bool) -> View:
    """Look, and refuse what forbids to serve; without ``wait`` also a cluster that another run holds."""
    view = look(context, lock_of(context, frozenset(), say))
    refuse_unreachable(view.probed)
    refuse_held(view, wait=wait)
    if view.plan.changes:
        raise not_bootstrapped(view)
    refuse_blocked(view.plan.blockers("serve"))
    return view


def not_bootstrapped(view: View) -> PreflightError:
    """Changes are due first; where another release is active, it is named, and what the two differ in."""
    rows = [f"{row.host} {row.step}: {row.field}: {row.current} → {row.desired}" for row in view.plan.changes]
    message, fix = f"{len(rows)} changes are due first", "r1deploy bootstrap"
    serving, wanted = view.plan.serving, record_of(view)
    evidence = rows[:8]
    if serving.active and not serving.is_(wanted):
        message = f"r1deploy.yaml describes release {view.desired.name}, {serving.name} is active: {message}"
        fix = f"r1deploy bootstrap, then serve; to stay with {serving.name}, set r1deploy.yaml back to what it was"
        evidence += [f"{serving.name} → {view.desired.name}: {row}" for row in differing(view, wanted)]
    return PreflightError("NOT_BOOTSTRAPPED", message, evidence=evidence, fix=fix)


def differing(view: View, wanted: Record) -> tuple[str, ...]:
    """What the active release and a wanted one differ in."""
    record = view.plan.serving.record
    return tuple(differences(record, wanted)) if record else ()


def serves_already(context: Context, view: View, say: Say) -> Passed | None:
    """The wanted release is active and whole on every host, and gives a token; what it lacks is said."""
    serving, record = view.plan.serving, record_of(view)
    if not serving.is_(record) or not (serving.active and serving.active.proven):
        return None
    for row in serving.problems:
        say(f"{row.host}: {row.text}")
    if not serving.serves:
        return None
    with context.head(view.probed) as remote:
        passed = ask(context, record, remote)
    if passed is None:
        say(f"release {serving.name} is up, but gives no token: it is started again")
    return passed


def agree(view: View, wanted: Record, told: Gap | None, confirm: Confirm) -> Gap:
    """Have it confirmed that something which serves is stopped for another release, unless that was told already."""
    serving = view.plan.serving
    stops = serving.name if serving.serves and not serving.is_(wanted) else None
    seconds = serving.active.seconds if serving.active else None
    gap = Gap(stops, f"{wanted.release}/{wanted.config}", seconds, differing(view, wanted))
    if stops and gap != told:
        confirm(gap)
    return gap


def switch(context: Context, view: View, wanted: Record, journal: Journal, say: Say, progress: Progress) -> Passed:
    """Put ``wanted`` in place and start it; what served before comes back where it fails.

    Raises GateError, ApplyError.
    """
    active = view.plan.serving.active
    former = former_of(active, wanted)
    try:
        if is_starting(view, wanted):
            say("a run that was cut has started it already: waiting for it")
            started = active_of(wanted, active)
            return pass_gate(context, view, wanted, started, journal, say, progress, playbook=None)
        return start(context, view, wanted, active_of(wanted, active), journal, say, progress)
    except LockedError:
        raise  # the next run joins what was begun, as after a kill
    except R1Error as error:
        back = find(view, former) if former else None
        if back is None:
            end_failed(context, view, wanted, journal, say)
            raise
        raise put_back(context, view, wanted, back, error, journal, say, progress) from error


def former_of(active: Active | None, wanted: Record) -> tuple[str, str] | None:
    """The release and configuration to go back to: the last one that passed its gate, and is not the wanted one."""
    if active is None:
        return None
    if (active.release, active.config) != (wanted.release, wanted.config):
        if active.proven or not active.previous:
            return active.release, active.config
    elif active.proven:
        return None
    if active.previous and active.previous != {"release": wanted.release, "config": wanted.config}:
        return active.previous["release"], active.previous["config"]
    return None


def is_starting(view: View, wanted: Record) -> bool:
    """Whether every host has it in place and nothing of it is missing, but nobody has waited for the gate."""
    found = view.probed.observed
    places = [found[host.name].state.active for host in view.desired.hosts]
    name = (wanted.release, wanted.config)
    in_place = all(active and (active.release, active.config) == name and not active.proven for active in places)
    return in_place and view.plan.serving.whole


def end_failed(context: Context, view: View, failed: Record, journal: Journal, say: Say) -> None:
    """A release that failed, with nothing to go back to: what is left of it frees the chips."""
    variables: dict[str, object] = {"service_name": failed.container, "service_cluster": context.settings.cluster}
    outcome = play(context, view.desired, journal, "stop.yml", variables=variables, groups=fixed_groups(view.desired))
    said = "what it had started was ended" if outcome.ok else "what it had started could not be ended"
    say(f"release {failed.release}/{failed.config} failed, and there is no former one to go back to; {said}")


def find(view: View, name: tuple[str, str]) -> Record | None:
    """The record of a release and configuration on the head."""
    state = view.probed.observed[view.desired.head.name].state.releases.get(name[0])
    return state.records.get(name[1]) if state else None


def active_of(wanted: Record, former: Active | None) -> dict[str, object]:
    """What active.json says from the switch on; it is proven when the gate is passed."""
    back = former_of(former, wanted)
    previous = {"release": back[0], "config": back[1]} if back else (former.previous if former else None)
    return {
        "release": wanted.release,
        "config": wanted.config,
        "since": now(),
        "proven": False,
        "previous": previous,
    }


def start(
    context: Context,
    view: View,
    record: Record,
    active: dict[str, object],
    journal: Journal,
    say: Say,
    progress: Progress,
) -> Passed:
    """Put a release in place on every host, start it on the head, pass the gate."""
    say(f"switching to release {record.release}/{record.config} on {len(record.hosts)} hosts")
    return pass_gate(context, view, record, active, journal, say, progress, playbook="serve.yml")


def pass_gate(
    context: Context,
    view: View,
    record: Record,
    active: dict[str, object],
    journal: Journal,
    say: Say,
    progress: Progress,
    *,
    playbook: str | None,
) -> Passed:
    """Run the playbook that starts the service, if any, wait for the gate, and write down that it was passed."""
    desired, settings = view.desired, context.settings
    variables = service_vars(context, record, active)
    groups = fixed_groups(desired)
    remote = context.head(view.probed)
    began = time.monotonic()
    try:
        gate = Gate(record, settings, remote, functools.partial(context.remote, view.probed), say, progress)
        gate.cancelled = journal.cancelled
        if playbook:
            gate.before()
            refuse_failed(play(context, desired, journal, playbook, variables=variables, groups=groups), journal)
        journal.doing("gate")
        with engine_goes_on(record.hosts[0].name):
            nodes = gate.join() if len(record.hosts) > 1 else ()
            passed = gate.ready(endpoint_of(context, record, key_on_head(context, record, remote), remote))
            # What was joined in the middle says nothing of how long a start takes.
            seconds = round(time.monotonic() - began, 1) if playbook else None
            proof = {**active, "proven": True, "answered": now(), "seconds": seconds}
            proven = {**variables, "service_active": proof}
            refuse_failed(play(context, desired, journal, "proven.yml", variables=proven, groups=groups), journal)
        return Passed(passed.endpoint, passed.model, passed.answer, nodes)
    finally:
        remote.close()


@contextlib.contextmanager
def engine_goes_on(head: str) -> Iterator[None]:
    """While we wait for the gate, a signal ends the waiting only: say so."""
    try:
        yield
    except Stopped as stop:
        stop.goes_on = f"the engine on {head} goes on loading"
        stop.fix = "r1deploy serve waits for it again, r1deploy stop ends it"
        raise


def service_vars(context: Context, record: Record, active: dict[str, object]) -> dict[str, object]:
    """Variables of the role ``service``. In: what active.json will say."""
    return {
        "service_name": record.container,
        "service_cluster": context.settings.cluster,
        "service_release": record.release,
        "service_active": active,
        "service_state_dir": context.settings.state_dir,
        "service_experiment": record.service,
        "service_mode": record.mode,
        "service_folder": config_folder(context, record),
        "service_workers": [host.address for host in record.hosts[1:]],
        "service_ssh_port": record.ssh_port,
    }


def put_back(
    context: Context,
    view: View,
    failed: Record,
    former: Record,
    error: R1Error,
    journal: Journal,
    say: Say,
    progress: Progress,
) -> GateError:
    """A release failed: the former one serves again, and proves it. Returns the error to raise."""
    say(f"release {failed.release}/{failed.config} failed: {error.message}")
    say(f"putting release {former.release}/{former.config} back")
    try:
        start(context, view, former, active_of(former, None), journal, say, progress)
        ending = f"release {former.release}/{former.config} serves again"
    except R1Error as second:
        ending = f"release {former.release}/{former.config} could not be put back: {second.message}"
    return GateError(
        error.code,
        f"{error.message}; {ending}",
        host=error.host,
        evidence=error.evidence,
        fix=error.fix,
        log=journal.path,
    )


def prune(context: Context, journal: Journal, say: Say) -> None:
    """Take away what neither the active nor the previous release needs."""
    view = look(context, lock_of(context, frozenset(), say))
    old = unneeded(view.desired, view.probed.observed)
    if not old:
        return
    host_vars: dict[str, dict[str, object]] = {
        host: {"service_old_containers": rows["containers"], "service_old_paths": rows["paths"]}
        for host, rows in old.items()
    }
    groups = {**fixed_groups(view.desired), "r1_old": tuple(old)}
    done = play(context, view.desired, journal, "prune.yml", groups=groups, host_vars=host_vars)
    refuse_failed(done, journal)
    say(f"took older releases away on {', '.join(old)}")


def rollback(
    context: Context,
    wanted: str | None,
    confirm: Confirm,
    journal: Journal,
    say: Say,
    progress: Progress,
    *,
    wait: bool = False,
) -> Served:
    """Serve a former release again, after it was found whole on every host.

    In: ``release`` or ``release/config``, or a beginning of it; None for the previous one; ``confirm`` as ``serve``.
    Raises PreflightError before any host is touched, GateError as ``serve``.
    """
    view, target = target_of(context, wanted, say)
    refuse_held(view, wait=wait)
    refuse_blocked(tuple(check for check in view.plan.blockers("serve") if check.code in HOST_BLOCKERS))
    gap = agree(view, target.record, None, confirm)
    with changing(context, view, "rollback", journal, say, wait=wait):
        view, target = target_of(context, wanted, say)
        agree(view, target.record, gap, confirm)
        passed = switch(context, view, target.record, journal, say, progress)
    return Served(passed, already=False)


def target_of(context: Context, wanted: str | None, say: Say) -> tuple[View, Held]:
    """A view of all hosts, and the release to go back to. Raises UnreachableError, PreflightError."""
    view = look(context, lock_of_any(context, say))
    refuse_unreachable(view.probed)
    return view, choose(held_of(context, view), wanted)
