"""Say what bootstrap would change where, and why; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.choices import Choice, choices
from r1deploy.observe.view import View, beside, between, lock_of, look, record_of, run_of
from r1deploy.planning.records import held
from r1deploy.run import Run
from r1deploy.settings.lockfile import moved, read


@dataclass(frozen=True)
class Planned:
    """The view that was planned from; what its settings differ in from what is there; inputs that move in
    r1deploy.lock; each choice with its origin.

    ``busy`` is the run that holds the cluster, None where none does.
    """

    view: View
    causes: tuple[str, ...]
    locks: tuple[tuple[str, str, str, str], ...]
    choices: tuple[Choice, ...]
    busy: dict[str, Any] | None


def plan(run: Run, upgrade: frozenset[str]) -> Planned:
    """Look, and compare. In: names of inputs to resolve anew. Raises UnreachableError, PreflightError."""
    view = beside(look(run.context, lock_of(run.context, upgrade, run.say)))
    refuse_unreachable(view.probed)
    return Planned(view, causes(view), moves(run, view), tuple(choices(run.context, view)), run_of(view))


def causes(view: View) -> tuple[str, ...]:
    """What the wanted release differs in from the active one, else from the only one that is there.

    Empty where there is none, where nothing changes, and while a silent host decides what is wanted.
    """
    head = view.desired.head.name
    if not view.plan.changes or head not in view.probed.observed or view.desired.config_id is None:
        return ()
    record = view.plan.serving.record
    if record is None:
        kept = held(view.desired.settings.cluster, head, view.probed.observed)
        record = kept[0].record if len(kept) == 1 else None
    return between(view, record, record_of(view)) if record else ()


def moves(run: Run, view: View) -> tuple[tuple[str, str, str, str], ...]:
    """What of the lock file a plan would change."""
    return tuple(moved(read(run.context.lock_path), view.lock))
