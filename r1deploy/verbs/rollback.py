"""Serve a former release again."""

from __future__ import annotations

from r1deploy.observe.blocking import refuse_blocked, refuse_unreachable
from r1deploy.observe.view import View, lock_of_any, look
from r1deploy.planning.records import Held
from r1deploy.run import Run
from r1deploy.serving.beforehand import prepare
from r1deploy.serving.switching import Confirm, Served, agree, switch
from r1deploy.verbs.releases import choose, held_of

# What forbids a start whatever is started; the other findings speak of what the settings ask for now.
HOST_BLOCKERS = frozenset({"FOREIGN_PROCESSES", "ENGINE_DOWN", "DRIVER_MISSING", "CHIP_SICK", "SUDO_REFUSED"})


def rollback(run: Run, wanted: str | None, confirm: Confirm) -> Served:
    """Serve a former release again, after it was found whole on every host.

    In: ``release`` or ``release/config``, or a beginning of it; None for the previous one; ``confirm`` as ``serve``.
    Raises PreflightError before any host is touched, GateError as ``serve``.
    """
    view, target = target_of(run, wanted)
    run.refuse_held(view)
    refuse_blocked(tuple(check for check in view.plan.blockers("serve") if check.code in HOST_BLOCKERS))
    gap = agree(view, target.record, None, confirm)
    with run.hold(view, "rollback"):
        view, target = target_of(run, wanted)
        if agree(view, target.record, gap, confirm).stops:
            prepare(run, view, target.record)
        return switch(run, view, target.record)


def target_of(run: Run, wanted: str | None) -> tuple[View, Held]:
    """A view of all hosts, and the release to go back to. Raises UnreachableError, PreflightError."""
    view = look(run.context, lock_of_any(run.context, run.say))
    refuse_unreachable(view.probed)
    return view, choose(held_of(view), wanted)
