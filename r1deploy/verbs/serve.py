"""Start or switch the service, pass the gate, or put the former release back."""

from __future__ import annotations

from dataclasses import replace

from r1deploy.ansible.runner import Play
from r1deploy.errors import PreflightError
from r1deploy.observe.blocking import refuse_blocked, refuse_unreachable
from r1deploy.observe.view import View, lock_of, look, record_of
from r1deploy.planning.recorded import Record
from r1deploy.planning.records import unneeded
from r1deploy.planning.rolevars import fixed_groups
from r1deploy.run import Run
from r1deploy.serving.answers import ask
from r1deploy.serving.beforehand import prepare
from r1deploy.serving.gate import Passed
from r1deploy.serving.stopwatch import Stopwatch
from r1deploy.serving.switching import Confirm, Served, agree, differing, switch


def serve(run: Run, confirm: Confirm) -> Served:
    """Serve the release that bootstrap prepared.

    In: ``confirm`` is told what would be stopped, and may refuse it. Raises PreflightError where the release is
    not whole or something forbids the start, GateError where it does not serve; then the former one serves again.
    """
    view = survey(run)
    run.refuse_held(view)
    refuse_unprepared(view)
    passed = serves_already(run, view)
    if passed:
        return Served(passed, already=True)
    gap = agree(view, record_of(view), None, confirm)
    with run.hold(view, "serve"):
        view = survey(run)
        refuse_unprepared(view)
        # Where nothing serves nobody waits, and what takes long is better begun at once.
        if agree(view, record_of(view), gap, confirm).stops:
            prepare(run, view, record_of(view))
        return start(run, view)


def start(run: Run, view: View, watch: Stopwatch | None = None) -> Served:
    """Start what bootstrap prepared, on a cluster that is held, and remove what no release needs any more.

    In: the watch of a switch that has begun.
    """
    served = switch(run, view, record_of(view), watch)
    prune(run)
    return replace(served, warnings=tuple(check for check in view.plan.checks if check.warning))


def survey(run: Run) -> View:
    """Look; every host has to answer. Raises UnreachableError."""
    view = look(run.context, lock_of(run.context, frozenset(), run.say))
    refuse_unreachable(view.probed)
    return view


def refuse_unprepared(view: View, but: frozenset[str] = frozenset()) -> None:
    """Raise PreflightError where the release is not whole, or something forbids to serve. In: codes that do not."""
    if view.plan.changes:
        raise not_bootstrapped(view)
    refuse_blocked(tuple(row for row in view.plan.blockers("serve") if row.code not in but))


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


def serves_already(run: Run, view: View) -> Passed | None:
    """The wanted release is active and whole on every host, and gives a token; what it lacks is said."""
    serving, record = view.plan.serving, record_of(view)
    if not serving.is_(record) or not (serving.active and serving.active.proven):
        return None
    for row in serving.problems:
        run.say(f"{row.host}: {row.text}")
    if not serving.serves:
        return None
    passed = answered(run, view, record)
    if passed is None:
        run.say(f"release {serving.name} is up, but gives no token: it is started again")
    return passed


def answered(run: Run, view: View, record: Record) -> Passed | None:
    """What the running service answers; None where it gives no token."""
    with run.head(view) as remote:
        return ask(run.settings, record, remote)


def prune(run: Run) -> None:
    """Remove what neither the active nor the previous release needs."""
    view = look(run.context, lock_of(run.context, frozenset(), run.say))
    old = unneeded(view.desired, view.probed.observed)
    if not old:
        return
    host_vars = {
        host: {"service_old_containers": rows["containers"], "service_old_paths": rows["paths"]}
        for host, rows in old.items()
    }
    groups = {**fixed_groups(view.desired), "r1_old": tuple(old)}
    run.apply(view.desired, Play("prune.yml", groups, host_vars=host_vars))
    run.say(f"removed older releases on {', '.join(old)}")
