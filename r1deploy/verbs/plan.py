"""Say what bootstrap would change where, and why; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.choices import Choice, choices
from r1deploy.observe.view import View, beside, lock_of, look, run_of
from r1deploy.run import Run
from r1deploy.settings.lockfile import moved, read


@dataclass(frozen=True)
class Planned:
    """The view that was planned from; inputs that move in r1deploy.lock; each choice with its origin.

    ``busy`` is the run that holds the cluster, None where none does.
    """

    view: View
    locks: tuple[tuple[str, str, str, str], ...]
    choices: tuple[Choice, ...]
    busy: dict[str, Any] | None


def plan(run: Run, upgrade: frozenset[str]) -> Planned:
    """Look, and compare. In: names of inputs to resolve anew. Raises UnreachableError, PreflightError."""
    view = beside(look(run.context, lock_of(run.context, upgrade, run.say)))
    refuse_unreachable(view.probed)
    return Planned(view, moves(run, view), tuple(choices(run.context, view)), run_of(view))


def moves(run: Run, view: View) -> tuple[tuple[str, str, str, str], ...]:
    """What of the lock file a plan would change."""
    return tuple(moved(read(run.context.lock_path), view.lock))
