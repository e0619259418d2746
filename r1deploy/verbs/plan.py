"""Say what bootstrap would change where, and why; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.choices import Choice, choices
from r1deploy.observe.formertexts import read_formers
from r1deploy.observe.view import View, beside, between, lock_of, look, record_of, run_of
from r1deploy.planning.filediffs import FileDiff, Former, diff_of, formers, moved_to
from r1deploy.planning.recorded import Record
from r1deploy.planning.records import held
from r1deploy.render import RECORD, SECRET
from r1deploy.run import Run
from r1deploy.settings.lockfile import moved, read


@dataclass(frozen=True)
class Planned:
    """The view that was planned from; what its settings differ in from what is there; inputs that move in
    r1deploy.lock; each choice with its origin.

    ``busy`` is the run that holds the cluster, None where none does; ``diffs``: where they were asked for.
    """

    view: View
    causes: tuple[str, ...]
    locks: tuple[tuple[str, str, str, str], ...]
    choices: tuple[Choice, ...]
    busy: dict[str, Any] | None
    diffs: tuple[FileDiff, ...] = ()


def plan(run: Run, upgrade: frozenset[str], *, files: bool = False) -> Planned:
    """Look, and compare. In: names of inputs to resolve anew; whether to read the files that would change.

    Raises UnreachableError, PreflightError.
    """
    view = beside(look(run.context, lock_of(run.context, upgrade, run.say)))
    refuse_unreachable(view.probed)
    found = diffs(run, view) if files else ()
    return Planned(view, causes(view), moves(run, view), tuple(choices(run.context, view)), run_of(view), found)


def causes(view: View) -> tuple[str, ...]:
    """What the wanted release differs in from the active one, else from the only one that is there.

    Empty where there is none, where nothing changes, and while a silent host decides what is wanted.
    """
    if not view.plan.changes or view.desired.config_id is None:
        return ()
    record = former_record(view)
    return between(view, record, record_of(view)) if record else ()


def former_record(view: View) -> Record | None:
    """The record of the active release, else of the only one that is there."""
    head = view.desired.head.name
    if view.plan.serving.record or head not in view.probed.observed:
        return view.plan.serving.record
    kept = held(view.desired.settings.cluster, head, view.probed.observed)
    return kept[0].record if len(kept) == 1 else None


def diffs(run: Run, view: View) -> tuple[FileDiff, ...]:
    """What changes inside the rendered files that were there before.

    Of the record beside them it is said where somebody changed it: else it is other in each configuration.
    """
    found = formers(view.desired, view.probed.observed, former_record(view))
    rows = [row for row in found if row.file != RECORD or row.edited]
    texts = read_formers(run.context, view.probed, [row for row in rows if row.file != SECRET])
    compared = (diff_in(view, row, texts.get(row)) for row in rows)
    return tuple(diff for diff in compared if diff)


def diff_in(view: View, former: Former, text: str | None) -> FileDiff | None:
    """One file; None where it only moves to another folder. In: what the host has, None where that is not known."""
    if text is None:
        reason = "it holds a secret" if former.file == SECRET else "its text could not be read"
        return FileDiff(former.host, former.file, former.edited, (), reason)
    old = moved_to(text, former, view.desired)
    new = view.rendered.files[former.host][former.file].decode()
    lines = diff_of(old, new)
    why = None if lines else "it differs in what is not shown"
    return FileDiff(former.host, former.file, former.edited, lines, why) if old != new else None


def moves(run: Run, view: View) -> tuple[tuple[str, str, str, str], ...]:
    """What of the lock file a plan would change."""
    return tuple(moved(read(run.context.lock_path), view.lock))
