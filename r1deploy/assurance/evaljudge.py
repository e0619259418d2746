"""The judge of ``eval``: one column against another, set by set. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from r1deploy.assurance.evalcolumns import MOST_CUT, Cell, Column, published, shares
from r1deploy.assurance.evallength import too_short
from r1deploy.assurance.evalrows import SETS, EvalRun, SetName
from r1deploy.assurance.evalstats import (
    ALPHA,
    Interval,
    Pairs,
    holm,
    mcnemar,
    newcombe,
    paired,
    paired_means,
    sign_flips,
    smallest_drop,
    two_proportions,
)
from r1deploy.planning.shardfindings import Memory

Verdict = Literal["agrees", "differs", "not shown", "no verdict"]
# A question's shares here and there, for those that both runs answered.
Both = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Measured:
    """A difference here − there of two shares, before the verdict. ``questions``: how many are compared here."""

    difference: float
    interval: Interval
    p: float
    test: str
    questions: int
    paired: bool


@dataclass(frozen=True)
class Judged:
    """One set. ``adjusted``: p after Holm; ``seen``: the smallest drop that these numbers show, None for pairs."""

    set: SetName
    here: Cell | None
    there: Cell | None
    verdict: Verdict
    why: str
    measured: Measured | None = None
    adjusted: float | None = None
    seen: float | None = None


@dataclass(frozen=True)
class Judgement:
    """A column against the one that it is to agree with, by a margin in percentage points."""

    here: Column
    there: Column
    margin: float
    rows: tuple[Judged, ...]


def pairs_of(here: EvalRun | None, there: EvalRun | None, name: SetName) -> Both:
    """The questions of one set that both runs answered; none where their data is not the same."""
    if here is None or there is None or here.data.get(name) != there.data.get(name):
        return {}
    one, other = shares(here.of(name)), shares(there.of(name))
    return {question: (share, other[question]) for question, share in one.items() if question in other}


def judge(here: Column, there: Column, margin: float, memory: Memory | None = None) -> Judgement:
    """``here`` against ``there``. In: the margin in points; the chips' memory behind ``here``, where it is known.

    Holm goes over the sets that are tested. Raises PreflightError without the libraries.
    """
    names = [name for name in SETS if name in here.cells or name in there.cells]
    rows = [_weighed(here, there, name, memory) for name in names]
    tested = [row for row in rows if row.measured]
    adjusted = holm([row.measured.p for row in tested if row.measured])
    verdicts = {
        row.set: _decided(replace(row, adjusted=p), margin / 100) for row, p in zip(tested, adjusted, strict=True)
    }
    return Judgement(here, there, margin, tuple(verdicts.get(row.set, row) for row in rows))


def of_the_page(margin: float) -> list[Judgement]:
    """The vendor's own columns against its H100's, as everything else is judged."""
    return [judge(published(title), published("H100"), margin) for title in ("INT8", "INT4")]


def _weighed(here: Column, there: Column, name: SetName, memory: Memory | None) -> Judged:
    """One set, measured; or with the reason for which there is no verdict."""
    one, other = here.cells.get(name), there.cells.get(name)
    if one is None or other is None:
        return Judged(name, one, other, "no verdict", f"{(there if one else here).title} has no number")
    for column, found, chips in ((here, one, memory), (there, other, None)):
        missing = column.run.unanswered(name) if column.run else 0
        if missing:
            return Judged(name, one, other, "no verdict", f"{missing} answers of {column.title} did not come")
        if found.too_much_cut and column.run:
            many = f"{100 * (found.cut or 0):.1f} % of the answers of {column.title} were cut by length"
            limit = f"{many} (more than {100 * MOST_CUT:g} %): {too_short(column.run, name, chips)}"
            return Judged(name, one, other, "no verdict", limit)
    both = pairs_of(here.run, there.run, name)
    if both:
        return Judged(name, one, other, "not shown", "", _of_pairs(list(both.values())))
    for column, found in ((here, one), (there, other)):
        first = column.run.settings.limit if column.run else None
        if first and found.questions < SETS[name].size:
            why = f"{column.title} has only the first {first} questions of each subject, which are no random sample"
            return Judged(name, one, other, "no verdict", why)
    measured = Measured(
        one.share - other.share,
        newcombe(one.right, one.questions, other.right, other.questions),
        two_proportions(one.right, one.questions, other.right, other.questions),
        "two-proportion",
        one.questions,
        False,
    )
    seen = smallest_drop(other.share, other.questions, one.questions)
    return Judged(name, one, other, "not shown", "", measured, seen=seen)


def counted(both: Sequence[tuple[float, float]]) -> Pairs:
    """Pairs of one answer each as the four counts."""
    return Pairs(*(both.count(kind) for kind in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0))))


def _of_pairs(both: Sequence[tuple[float, float]]) -> Measured:
    """McNemar where each question has one answer a run; else by question."""
    differences = [here - there for here, there in both]
    difference, pairs = sum(differences) / len(both), counted(both)
    if pairs.questions == len(both):
        p, test = mcnemar(pairs)
        return Measured(difference, paired(pairs), p, test, len(both), True)
    p, test = sign_flips(differences), "sign flips by question"
    return Measured(difference, paired_means(both), p, test, len(both), True)


def _decided(row: Judged, margin: float) -> Judged:
    """The verdict: agrees where the interval ends above the margin; differs where a difference is shown."""
    assert row.measured and row.adjusted is not None
    interval, shown, limit = row.measured.interval, row.adjusted < ALPHA, f"{100 * margin:g} points"
    side = "lower" if row.measured.difference < 0 else "higher"
    if shown and interval.low > margin:
        return replace(row, verdict="differs", why=f"it is higher, by more than {limit}: are these the same questions?")
    if interval.low > -margin:
        also = f"; that it is {side} is shown" if shown else ""
        return replace(row, verdict="agrees", why=f"it is lower by less than {limit}, if at all{also}")
    if shown:
        whole = f", by more than {limit}" if interval.high < -margin else ""
        return replace(row, verdict="differs", why=f"it is {side}{whole}")
    seen = f"; so many questions show a drop of {100 * row.seen:.1f} points with 80 % power" if row.seen else ""
    return replace(row, why=f"neither a difference nor that it is less than {limit}{seen}")
