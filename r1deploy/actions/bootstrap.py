"""preflight + plan + apply + verify, to "ready to serve"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from r1deploy.actions.runs import changing, play, refuse_held
from r1deploy.ansible.folder import run_folder
from r1deploy.ansible.runner import Outcome
from r1deploy.errors import ApplyError, PreflightError
from r1deploy.inputs.key import prove_key
from r1deploy.inputs.tarball import prove_tarball
from r1deploy.inputs.upstream import prove_upstreams
from r1deploy.journal import Journal
from r1deploy.observe.context import Context
from r1deploy.observe.view import View, limited, lock_of, look, refuse_unreachable
from r1deploy.planning.findings import Check
from r1deploy.planning.planner import Plan
from r1deploy.planning.rolevars import groups, host_vars, role_vars, write_files
from r1deploy.planning.steps import STEP_NAMES
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock
from r1deploy.voice import Say

NEED_KEY = {"patch"}


@dataclass(frozen=True)
class Options:
    """How a bootstrap is asked for."""

    upgrade: frozenset[str] = frozenset()
    limit: str | None = None
    skip_unreachable: bool = False
    wait: bool = False


@dataclass(frozen=True)
class Done:
    """What came of it: the plan that was applied, and the view after it."""

    applied: Plan
    view: View


def considered(context: Context, options: Options, say: Say, *, wait: bool = True) -> View:
    """Resolve, once a run; probe, plan, and prove what the plan needs. Changes nothing.

    Raises UnreachableError, PreflightError, UsageError; without ``wait`` LockedError, before what takes long.
    """
    view = survey(context, options, lock_of(context, options.upgrade, say), say)
    if view.plan.changes:
        refuse_held(view, wait=wait)
    prove(context, view, say)
    return view


def survey(context: Context, options: Options, lock: Lock, say: Say) -> View:
    """Probe and plan what a lock asks for; nothing is resolved. Raises as ``considered`` does."""
    view = look(context, lock)
    if options.skip_unreachable:
        refuse_headless(view, say)
    else:
        refuse_unreachable(view.probed)
    view = limited(view, options.limit)
    if view.plan.changes:
        refuse_blocked(view.plan.blockers("bootstrap"))
    return view


def prove(context: Context, view: View, say: Say) -> None:
    """The commits, the tarball and the key that a plan needs can be had and are right. Raises PreflightError."""
    steps = {row.step for row in view.plan.changes}
    if {"sources", "patch"} & steps:
        say(prove_upstreams(context.settings, view.lock))
    if view.plan.hosts_of("image"):
        say(prove_tarball(context.settings, view.lock.image))
    if NEED_KEY & steps:
        say(prove_key(context.settings, view.lock.patch.ciphertexts if view.lock.patch else {}))


def refuse_headless(view: View, say: Say) -> None:
    """Go on without the hosts that do not answer, and name them; never without the head or the builder."""
    needed = {view.desired.head.name, view.desired.builder.name}
    if needed & view.probed.failures.keys():
        refuse_unreachable(view.probed)
    for name, failure in view.probed.failures.items():
        say(f"skipped {name}: {failure.message} ({failure.code})")


def refuse_blocked(blockers: tuple[Check, ...]) -> None:
    """Raise PreflightError where something forbids to go on; the first one gives the code."""
    if not blockers:
        return
    rows = [f"{row.host or 'cluster'}: {row.name}: {row.detail} ({row.code})" for row in blockers]
    raise PreflightError(
        blockers[0].code,
        rows[0] if len(rows) == 1 else f"{len(rows)} findings forbid to go on",
        blockers=blockers,
        host=blockers[0].host,
        evidence=rows if len(rows) > 1 else (),
        fix="\n".join(dict.fromkeys(row.fix for row in blockers if row.fix)) or None,
    )


def bootstrap(context: Context, options: Options, confirm: Callable[[View], None], journal: Journal, say: Say) -> Done:
    """Converge every host. In: ``confirm`` shows the plan and may refuse it.

    Raises ApplyError with the failed host's own last lines, or where a difference is left.
    """
    view = considered(context, options, say, wait=options.wait)
    if not view.plan.changes:
        lockfile_write(context, view)
        return Done(view.plan, view)
    confirm(view)
    with changing(context, view, "bootstrap", journal, say, wait=options.wait):
        return converge(context, agreed(context, view, options, confirm, say), options, journal, say)


def agreed(context: Context, view: View, options: Options, confirm: Callable[[View], None], say: Say) -> View:
    """What is there now that the cluster is held, for the lock that was agreed to.

    Another run may have come between: where the plan is another one, it is shown and asked for again.
    """
    now = survey(context, options, view.lock, say)
    if now.plan.changes and now.plan.changes != view.plan.changes:
        say("The hosts changed since the plan was made. This is the plan now:")
        prove(context, now, say)
        confirm(now)
    return now


def converge(context: Context, view: View, options: Options, journal: Journal, say: Say) -> Done:
    """Apply and look again until nothing differs. Raises ApplyError."""
    first = view.plan
    lockfile_write(context, view)
    if view.desired.image_id is None:
        apply(context, view, ("host", "image"), journal)
        view = survey(context, options, view.lock, say)
        lockfile_write(context, view)
    # Twice at the most: a stopped container hides what is installed in it until it runs.
    for _ in range(2):
        if not view.plan.changes:
            return Done(first, view)
        apply(context, view, STEP_NAMES, journal)
        view = survey(context, options, view.lock, say)
    if view.plan.changes:
        raise left_over(view.plan, journal)
    return Done(first, view)


def lockfile_write(context: Context, view: View) -> None:
    """Record what was resolved, where it is not recorded yet."""
    if lockfile.read(context.lock_path) != view.lock:
        lockfile.write(context.lock_path, view.lock)


def left_over(plan: Plan, journal: Journal) -> ApplyError:
    """Ansible said it did all; the probe says otherwise, and the probe is right."""
    rows = [f"{row.host} {row.step}: {row.field}: {row.current} → {row.desired}" for row in plan.changes]
    return ApplyError(
        "STILL_DIFFERS", f"{len(rows)} differences are left after all steps", evidence=rows[:15], log=journal.path
    )


def apply(context: Context, view: View, steps: tuple[str, ...], journal: Journal) -> Outcome:
    """Run the steps that have work. Raises ApplyError."""
    with run_folder() as folder:
        write_files(view, folder / "files")
        outcome = play(
            context,
            view.desired,
            journal,
            "bootstrap.yml",
            variables=role_vars(view, folder / "staging", bool(view.plan.hosts_of("patch")) and "patch" in steps),
            groups=groups(view, steps),
            host_vars=host_vars(view, folder / "files"),
            folder=folder,
        )
    refuse_failed(outcome, journal)
    return outcome


def refuse_failed(outcome: Outcome, journal: Journal) -> None:
    """Raise ApplyError for the first failure of a run, with its evidence."""
    if outcome.failures:
        row = outcome.failures[0]
        others = [f"{other.host}: {other.message}" for other in outcome.failures[1:]]
        raise ApplyError(
            row.code,
            f"{row.host}: {row.step}: {row.task}: {row.message}",
            host=row.host,
            evidence=[*row.evidence, *others],
            fix=row.fix or "mend the cause and run the same command again: finished work is kept",
            log=journal.path,
        )
    if not outcome.ok:
        raise ApplyError("ANSIBLE_FAILED", "Ansible could not run", evidence=outcome.tail, log=journal.path)
