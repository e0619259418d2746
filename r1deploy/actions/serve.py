"""Start or switch the service, pass the gate, or put the former release back."""

from __future__ import annotations

import contextlib
import datetime
import functools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from r1deploy.actions.bootstrap import refuse_blocked, refuse_failed
from r1deploy.actions.context import Context
from r1deploy.actions.gate import Gate, Passed, Progress, Say
from r1deploy.actions.look import View, lock_of, lock_of_any, look, record_of, refuse_unreachable
from r1deploy.actions.runs import api_key_of, changing, play
from r1deploy.actions.variables import fixed_groups
from r1deploy.engine import Endpoint
from r1deploy.errors import GateError, LockedError, PreflightError, R1Error
from r1deploy.journal import Journal
from r1deploy.planning.observed import Active, Observed, Record
from r1deploy.planning.records import Held, held, unneeded
from r1deploy.remote import Remote
from r1deploy.render import SECRET
from r1deploy.settings import redact
from r1deploy.signals import Stopped

# What forbids a start whatever is started; the other findings speak of what the settings ask for now.
HOST_BLOCKERS = frozenset({"FOREIGN_PROCESSES", "ENGINE_DOWN", "DRIVER_MISSING", "CHIP_SICK", "SUDO_REFUSED"})


@dataclass(frozen=True)
class Served:
    """What serve ends with."""

    passed: Passed
    already: bool


def serve(context: Context, journal: Journal, say: Say, progress: Progress, *, wait: bool = False) -> Served:
    """Serve the release that bootstrap prepared.

    Raises PreflightError where the release is not whole or something forbids the
    start, GateError where it does not serve; then the former release serves again.
    """
    view = survey(context, say)
    passed = serves_already(context, view)
    if passed:
        return Served(passed, already=True)
    with changing(context, view, "serve", journal, say, wait=wait):
        view = survey(context, say)
        passed = switch(context, view, record_of(view), journal, say, progress)
        prune(context, journal, say)
    return Served(passed, already=False)


def survey(context: Context, say: Say) -> View:
    """Look, and refuse what forbids to serve."""
    view = look(context, lock_of(context, frozenset(), say))
    refuse_unreachable(view.probed)
    if view.plan.changes:
        rows = [f"{row.host} {row.step}: {row.field}: {row.current} → {row.desired}" for row in view.plan.changes]
        raise PreflightError(
            "NOT_BOOTSTRAPPED", f"{len(rows)} changes are due first", evidence=rows[:8], fix="r1deploy bootstrap"
        )
    refuse_blocked(view.plan.blockers("serve"))
    return view


def serves_already(context: Context, view: View) -> Passed | None:
    """The wanted release is active on every host and answers."""
    record = record_of(view)
    if not is_active(view, record):
        return None
    with context.head(view.probed) as remote:
        return serves(endpoint_of(context, record, api_key_of(context), remote), record)


def switch(context: Context, view: View, wanted: Record, journal: Journal, say: Say, progress: Progress) -> Passed:
    """Put ``wanted`` in place and start it; what served before comes back where it fails.

    Raises GateError, ApplyError.
    """
    active = view.probed.observed[view.desired.head.name].state.active
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
        raise put_back(context, view, back, error, journal, say, progress) from error


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
    """Whether every host has it in place and its engine lives, but nobody has waited for the gate."""
    found = view.probed.observed
    places = [found[host.name].state.active for host in view.desired.hosts]
    name = (wanted.release, wanted.config)
    in_place = all(active and (active.release, active.config) == name and not active.proven for active in places)
    return in_place and bool(found[view.desired.head.name].processes.engines)


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


def is_active(view: View, record: Record) -> bool:
    """Whether every host has this release and configuration active and proven, with a live engine on the head."""
    for host in view.desired.hosts:
        active = view.probed.observed[host.name].state.active
        if active is None or (active.release, active.config) != (record.release, record.config):
            return False
    head = view.probed.observed[view.desired.head.name]
    return bool(head.processes.engines) and bool(head.state.active and head.state.active.proven)


def endpoint_of(context: Context, record: Record, api_key: str | None, remote: Remote) -> Endpoint:
    """The API of a record's head; over SSH where its address does not answer from here."""
    service = context.settings.service
    return Endpoint(record.hosts[0].address, record.port, record.model, service, api_key, remote.forward)


def serves(endpoint: Endpoint, record: Record) -> Passed | None:
    """A running service proves itself: health, model and one answer."""
    if endpoint.health() != 200 or record.model not in (endpoint.models() or []):
        return None
    answer = endpoint.complete(60)
    if answer is None or not answer.text:
        return None
    return Passed(f"{endpoint.url}/v1", record.model, answer, ())


def active_of(wanted: Record, former: Active | None) -> dict[str, object]:
    """What active.json says from the switch on; it is proven when the gate is passed."""
    back = former_of(former, wanted)
    previous = {"release": back[0], "config": back[1]} if back else (former.previous if former else None)
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "release": wanted.release,
        "config": wanted.config,
        "since": since,
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
    config = f"{settings.state_dir}/releases/{record.release}/config/{record.config}"
    variables = service_vars(context, record, config, active)
    groups = fixed_groups(desired)
    remote = context.head(view.probed)
    try:
        gate = Gate(record, settings, remote, functools.partial(context.remote, view.probed), say, progress)
        gate.cancelled = journal.cancelled
        if playbook:
            gate.before()
            refuse_failed(play(context, desired, journal, playbook, variables=variables, groups=groups), journal)
        journal.doing("gate")
        with engine_goes_on(record.hosts[0].name):
            nodes = gate.join() if len(record.hosts) > 1 else ()
            passed = gate.ready(endpoint_of(context, record, key_on_head(remote, config), remote))
            proven = {**variables, "service_active": {**active, "proven": True}}
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


def service_vars(context: Context, record: Record, config: str, active: dict[str, object]) -> dict[str, object]:
    """Variables of the role ``service``. In: the configuration's folder; what active.json will say."""
    return {
        "service_name": record.container,
        "service_cluster": context.settings.cluster,
        "service_release": record.release,
        "service_active": active,
        "service_state_dir": context.settings.state_dir,
        "service_experiment": record.service,
        "service_mode": record.mode,
        "service_folder": config,
        "service_workers": [host.address for host in record.hosts[1:]],
        "service_ssh_port": record.ssh_port,
    }


def key_on_head(remote: Remote, config: str) -> str | None:
    """The API key that a configuration was written with: a former release has its own."""
    code, text = remote.run(f"cat {config}/{SECRET}")
    if code != 0:
        return None
    key = shlex.split(text.strip().removeprefix("export VLLM_API_KEY="))[0]
    redact.remember(key)
    return key


def put_back(
    context: Context, view: View, former: Record, error: R1Error, journal: Journal, say: Say, progress: Progress
) -> GateError:
    """The new release failed: the former one serves again, and proves it. Returns the error to raise."""
    failed = f"release {view.desired.release.id}/{view.desired.config_id}"
    say(f"{failed} failed: {error.message}")
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


def releases(context: Context, say: Say) -> list[Held]:
    """Every release that is on the hosts, and what is missing of it. Raises UnreachableError without the head."""
    view = look(context, lock_of_any(context, say))
    return held_of(context, view)


def held_of(context: Context, view: View) -> list[Held]:
    """The releases of a view; without an answer of the head nobody knows."""
    head = view.desired.head.name
    if head not in view.probed.observed:
        refuse_unreachable(view.probed)
    return held(context.settings.cluster, head, view.probed.observed)


def rollback(
    context: Context, wanted: str | None, journal: Journal, say: Say, progress: Progress, *, wait: bool = False
) -> Served:
    """Serve a former release again, after it was found whole on every host.

    In: ``release`` or ``release/config``, or a beginning of it; None for the previous one.
    Raises PreflightError before any host is touched, GateError as ``serve``.
    """
    view = look(context, lock_of_any(context, say))
    refuse_unreachable(view.probed)
    choose(held_of(context, view), wanted)
    refuse_blocked(tuple(check for check in view.plan.blockers("serve") if check.code in HOST_BLOCKERS))
    with changing(context, view, "rollback", journal, say, wait=wait):
        view = look(context, lock_of_any(context, say))
        refuse_unreachable(view.probed)
        target = choose(held_of(context, view), wanted)
        passed = switch(context, view, target.record, journal, say, progress)
    return Served(passed, already=False)


def choose(rows: list[Held], wanted: str | None) -> Held:
    """The release to go back to, whole on every host. Raises PreflightError."""
    fix = "r1deploy releases"
    if wanted is None:
        fits = [row for row in rows if row.state == "previous"]
        if not fits:
            raise PreflightError("ROLLBACK_NOTHING", "there is no previous release to go back to", fix=fix)
    else:
        fits = [row for row in rows if row.name.startswith(wanted) or row.record.config.startswith(wanted)]
        if not fits:
            known = ", ".join(row.name for row in rows) or "none"
            raise PreflightError("ROLLBACK_NOTHING", f"no release {wanted} on the head (there: {known})", fix=fix)
        if len(fits) > 1:
            known = ", ".join(row.name for row in fits)
            raise PreflightError("ROLLBACK_AMBIGUOUS", f"{wanted} may be {known}", fix="name it whole")
    found = fits[0]
    if found.state == "active":
        raise PreflightError("ROLLBACK_NOTHING", f"release {found.name} is the active one", fix=fix)
    if found.problems:
        raise PreflightError(
            "ROLLBACK_INCOMPLETE",
            f"release {found.name} is not whole: {found.problems[0]}; nothing was touched",
            host=found.problems[0].split(":")[0],
            evidence=found.problems if len(found.problems) > 1 else (),
            fix="set r1deploy.yaml back to what that release was made of, then bootstrap and serve",
        )
    return found


def stop(context: Context, journal: Journal, say: Say, *, wait: bool = False) -> bool:
    """End the service: only the processes of our own container. Returns whether anything ran."""
    view = look(context, lock_of_any(context, say))
    for name, failure in view.probed.failures.items():
        say(f"{name}: {failure.message}; not stopped there")
    running = tuple(name for name, found in view.probed.observed.items() if runs(context, found))
    if not running:
        return False
    variables: dict[str, object] = {
        "service_name": context.settings.container.name,
        "service_cluster": context.settings.cluster,
    }
    groups = {**fixed_groups(view.desired), "r1_service": running}
    with changing(context, view, "stop", journal, say, wait=wait):
        refuse_failed(play(context, view.desired, journal, "stop.yml", variables=variables, groups=groups), journal)
    return True


def runs(context: Context, found: Observed) -> bool:
    """Whether Ray or an engine runs in the active container of a host."""
    holders = {row.container for row in found.processes.engines} | {row.container for row in found.processes.raylets}
    return context.settings.container.name in holders
