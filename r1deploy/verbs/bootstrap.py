"""preflight + plan + apply + verify, to "ready to serve"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from r1deploy.applying import apply
from r1deploy.errors import ApplyError
from r1deploy.inputs.key import prove_key
from r1deploy.inputs.tarball import prove_tarball
from r1deploy.inputs.upstream import prove_upstreams
from r1deploy.observe.blocking import refuse_blocked, refuse_unreachable
from r1deploy.observe.view import View, limited, lock_of, look
from r1deploy.planning.planner import Plan
from r1deploy.planning.steps import STEPS
from r1deploy.run import Run
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock
from r1deploy.together import begin

NEED_KEY = {"patch"}


@dataclass(frozen=True)
class Options:
    """How a bootstrap is asked for."""

    upgrade: frozenset[str] = frozenset()
    limit: str | None = None
    skip_unreachable: bool = False


@dataclass(frozen=True)
class Done:
    """What came of it: the plan that was applied, and the view after it."""

    applied: Plan
    view: View


def bootstrap(run: Run, options: Options, confirm: Callable[[View], None]) -> Done:
    """Converge every host. In: ``confirm`` shows the plan and may refuse it.

    Raises ApplyError with the failed host's own last lines, or where a difference is left.
    """
    view = considered(run, options)
    if not view.plan.changes:
        lockfile_write(run, view)
        return Done(view.plan, view)
    confirm(view)
    with run.hold(view, "bootstrap"):
        return converge(run, options, agreed(run, options, view, confirm))


def check(run: Run, options: Options) -> View:
    """What ``bootstrap`` would do, verified as far as that changes nothing; whoever holds the cluster."""
    return considered(run, options, at_once=True)


def considered(run: Run, options: Options, *, at_once: bool = False) -> View:
    """Resolve, once a run; probe, plan, and prove what the plan needs. Changes nothing.

    In: ``at_once``, whether it is no matter that another run holds the cluster; else that is told before what takes
    long. Raises UnreachableError, PreflightError, UsageError, LockedError.
    """
    view = survey(run, options, lock_of(run.context, options.upgrade, run.say))
    if view.plan.changes and not at_once:
        run.refuse_held(view)
    prove(run, view)
    return view


def survey(run: Run, options: Options, lock: Lock) -> View:
    """Probe and plan what a lock asks for; nothing is resolved. Raises as ``considered`` does."""
    view = look(run.context, lock)
    if options.skip_unreachable:
        refuse_headless(run, view)
    else:
        refuse_unreachable(view.probed)
    view = limited(view, options.limit)
    if view.plan.changes:
        refuse_blocked(view.plan.blockers("bootstrap"))
    return view


def refuse_headless(run: Run, view: View) -> None:
    """Go on without the hosts that do not answer, and name them; never without the head or the builder."""
    needed = {view.desired.head.name, view.desired.builder.name}
    if needed & view.probed.failures.keys():
        refuse_unreachable(view.probed)
    for name, failure in view.probed.failures.items():
        run.say(f"skipped {name}: {failure.message} ({failure.code})")


def prove(run: Run, view: View) -> None:
    """The commits, the tarball and the key that a plan needs can be had and are right. Raises PreflightError.

    The tarball is hashed while git is asked: that stays in this thread, where a signal ends it whole.
    """
    steps = {row.step for row in view.plan.changes}
    hashed = begin(lambda: prove_tarball(run.settings, view.lock.image)) if "image" in steps else None
    if {"sources", "patch"} & steps:
        run.say(prove_upstreams(run.settings, view.lock))
    if hashed:
        run.say(hashed.result())
    if NEED_KEY & steps:
        run.say(prove_key(run.settings, view.lock.patch.ciphertexts if view.lock.patch else {}))


def agreed(run: Run, options: Options, view: View, confirm: Callable[[View], None]) -> View:
    """What is there now that the cluster is held, for the lock that was agreed to.

    Another run may have come between: where the plan is another one, it is shown and asked for again.
    """
    now = survey(run, options, view.lock)
    if now.plan.changes and now.plan.changes != view.plan.changes:
        run.say("The hosts changed since the plan was made. This is the plan now:")
        prove(run, now)
        confirm(now)
    return now


def converge(run: Run, options: Options, view: View) -> Done:
    """Apply and look again until nothing differs. Raises ApplyError."""
    first = view.plan
    lockfile_write(run, view)
    if view.desired.image_id is None:
        apply(run, view, ("host", "image"))
        view = survey(run, options, view.lock)
        lockfile_write(run, view)
    # Twice at the most: a stopped container hides what is installed in it until it runs.
    for _ in range(2):
        if not view.plan.changes:
            return Done(first, view)
        apply(run, view, STEPS)
        view = survey(run, options, view.lock)
    if view.plan.changes:
        raise left_over(run, view.plan)
    return Done(first, view)


def lockfile_write(run: Run, view: View) -> None:
    """Record what was resolved, where it is not recorded yet."""
    if lockfile.read(run.context.lock_path) != view.lock:
        lockfile.write(run.context.lock_path, view.lock)


def left_over(run: Run, plan: Plan) -> ApplyError:
    """Ansible said it did all; the probe says otherwise, and the probe is right."""
    rows = [f"{row.host} {row.step}: {row.field}: {row.current} → {row.desired}" for row in plan.changes]
    return ApplyError(
        "STILL_DIFFERS", f"{len(rows)} differences are left after all steps", evidence=rows[:15], log=run.log
    )
