"""Start or switch the service, pass the gate, or put the former release back."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from r1deploy.actions.bootstrap import refuse_blocked, refuse_failed
from r1deploy.actions.context import Context
from r1deploy.actions.gate import Gate, Passed, Progress, Say
from r1deploy.actions.look import View, lock_of, look, refuse_unreachable
from r1deploy.actions.variables import fixed_groups
from r1deploy.engine import Endpoint
from r1deploy.errors import GateError, PreflightError, R1Error
from r1deploy.journal import Journal
from r1deploy.planning.desired import Desired
from r1deploy.planning.observed import Active
from r1deploy.remote import Remote
from r1deploy.runner.ansible import run


@dataclass(frozen=True)
class Served:
    """What serve ends with."""

    passed: Passed
    already: bool


def head_remote(context: Context, view: View) -> Remote:
    """A connection to the head."""
    head = view.desired.head
    return Remote(head, view.probed.login.get(head.name, {}), context.settings.ssh)


def serve(context: Context, journal: Journal, say: Say, progress: Progress) -> Served:
    """Serve the release that bootstrap prepared.

    Raises PreflightError where the release is not whole or something forbids the
    start, GateError where it does not serve; then the former release serves again.
    """
    view = look(context, lock_of(context, frozenset(), say))
    refuse_unreachable(view.probed)
    if view.plan.changes:
        rows = [f"{row.host} {row.step}: {row.field}: {row.current} → {row.desired}" for row in view.plan.changes]
        raise PreflightError(
            "NOT_BOOTSTRAPPED", f"{len(rows)} changes are due first", evidence=rows[:8], fix="r1deploy bootstrap"
        )
    refuse_blocked(view.plan.blockers("serve"))
    if is_active(view):
        with head_remote(context, view) as remote:
            passed = serves(Endpoint(view.desired.head.address, context.settings, remote.forward), view.desired)
        if passed:
            return Served(passed, already=True)
    former = view.probed.observed[view.desired.head.name].state.active
    wanted = active_of(view.desired, former)
    try:
        return Served(start(context, view, wanted, journal, say, progress), already=False)
    except (GateError, R1Error) as error:
        if former is None or (former.release, former.config) == (wanted["release"], wanted["config"]):
            raise
        raise put_back(context, view, former, error, journal, say, progress) from error


def is_active(view: View) -> bool:
    """Whether every host has this release and configuration active, with a live engine on the head."""
    desired = view.desired
    for host in desired.hosts:
        active = view.probed.observed[host.name].state.active
        if active is None or (active.release, active.config) != (desired.release.id, desired.config_id):
            return False
    return bool(view.probed.observed[desired.head.name].processes.engines)


def serves(endpoint: Endpoint, desired: Desired) -> Passed | None:
    """A running service proves itself: health, model and one answer."""
    if endpoint.health() != 200 or desired.settings.engine.served_model_name not in (endpoint.models() or []):
        return None
    answer = endpoint.complete(60)
    if answer is None or not answer.text:
        return None
    return Passed(f"{endpoint.url}/v1", desired.settings.engine.served_model_name, answer, ())


def active_of(desired: Desired, former: Active | None) -> dict[str, object]:
    """What active.json says after the switch."""
    previous = None
    if former is not None:
        previous = {"release": former.release, "config": former.config}
        if (former.release, former.config) == (desired.release.id, desired.config_id):
            previous = former.previous
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"release": desired.release.id, "config": desired.config_id, "since": since, "previous": previous}


def start(
    context: Context, view: View, active: dict[str, object], journal: Journal, say: Say, progress: Progress
) -> Passed:
    """Put a release in place on every host, start it on the head, pass the gate."""
    desired, settings = view.desired, context.settings
    release_dir = f"{settings.state_dir}/releases/{active['release']}"
    config = f"{release_dir}/config/{active['config']}"
    remote = head_remote(context, view)
    try:
        gate = Gate(desired, release_dir, remote, say, progress)
        gate.before()
        say(f"switching to release {active['release']} on {len(desired.hosts)} hosts")
        outcome = run(
            context.target,
            "serve.yml",
            variables={
                "service_name": settings.container.name,
                "service_cluster": settings.cluster,
                "service_release": active["release"],
                "service_active": active,
                "service_state_dir": settings.state_dir,
                "service_experiment": settings.service.name,
                "service_config": f"{config}/config_{settings.service.name}.yaml",
                "service_env_file": f"{config}/env.sh",
                "service_workers": [host.address for host in desired.workers],
                "service_ssh_port": next((host.port or 22 for host in desired.workers), 22),
            },
            groups=fixed_groups(desired),
            listen=journal.event,
            addresses={host.name: host.address for host in desired.hosts},
        )
        refuse_failed(outcome, journal)
        nodes = gate.join() if desired.workers else ()
        passed = gate.ready(Endpoint(desired.head.address, settings, remote.forward))
        return Passed(passed.endpoint, passed.model, passed.answer, nodes)
    finally:
        remote.close()


def put_back(
    context: Context, view: View, former: Active, error: R1Error, journal: Journal, say: Say, progress: Progress
) -> GateError:
    """The new release failed: the former one serves again, and proves it. Returns the error to raise."""
    say(f"release {view.desired.release.id} failed: {error.message}")
    say(f"putting release {former.release} back")
    active: dict[str, object] = former.model_dump()
    try:
        start(context, view, active, journal, say, progress)
        ending = f"release {former.release} serves again"
    except R1Error as second:
        ending = f"release {former.release} could not be put back: {second.message}"
    return GateError(
        error.code,
        f"{error.message}; {ending}",
        host=error.host,
        evidence=error.evidence,
        fix=error.fix,
        log=journal.path,
    )


def stop(context: Context, journal: Journal, say: Say) -> bool:
    """End the service: only the processes of our own container. Returns whether anything ran."""
    view = look(context, lock_of(context, frozenset(), say))
    names = {context.settings.container.name}
    running = tuple(
        name
        for name, found in view.probed.observed.items()
        if any(
            holder in names
            for holder in (
                *(row.container for row in found.processes.engines),
                *(row.container for row in found.processes.raylets),
            )
        )
    )
    for name, failure in view.probed.failures.items():
        say(f"{name}: {failure.message}; not stopped there")
    if not running:
        return False
    variables = {"service_name": context.settings.container.name, "service_cluster": context.settings.cluster}
    groups = {**fixed_groups(view.desired), "r1_service": running}
    refuse_failed(run(context.target, "stop.yml", variables=variables, groups=groups, listen=journal.event), journal)
    return True
