"""The columns of the evaluation table: a run's, and those that the vendor published. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from r1deploy.assurance.evalrows import SETS, EvalRun, Published, Score, SetName
from r1deploy.assurance.evalstats import Interval, by_question, wilson

# More answers than this share cut by length: no verdict is honest.
MOST_CUT = 0.02
SOURCES: dict[Published, str] = {
    "H100": "the vendor's page (docs/vendor-page.md)",
    "INT8": "the vendor's page (docs/vendor-page.md)",
    "INT4": "the vendor's INT4 card (docs/vendor-page.md)",
}


@dataclass(frozen=True)
class Cell:
    """One set in one column. ``share`` is right; ``cut`` is the share of answers cut by length, None: not known."""

    questions: int
    answers: int
    share: float
    interval: Interval
    how: Literal["Wilson", "bootstrap by question"]
    cut: float | None

    @property
    def right(self) -> float:
        """Questions that are right; with repeats the sum of each question's share."""
        return self.share * self.questions

    @property
    def too_much_cut(self) -> bool:
        """Whether no verdict is honest."""
        return self.cut is not None and self.cut > MOST_CUT


@dataclass(frozen=True)
class Column:
    """A title of at the most nine letters, the file of the numbers, a cell a set. ``run``: None if published."""

    title: str
    source: str
    cells: Mapping[SetName, Cell]
    run: EvalRun | None = None


def shares(scores: Iterable[Score]) -> dict[str, float]:
    """The share of right answers of each question of one set."""
    rights: dict[str, list[bool]] = {}
    for score in scores:
        rights.setdefault(score.question, []).append(score.right)
    return {question: fmean(answers) for question, answers in rights.items()}


def cell(scores: list[Score]) -> Cell:
    """One set of a run. In: at least one answer. Raises PreflightError without the libraries."""
    means = list(shares(scores).values())
    share = fmean(means)
    drawn = by_question(means) if len(scores) > len(means) else None
    interval = drawn or wilson(share * len(means), len(means))
    cut = sum(score.cut for score in scores) / len(scores)
    return Cell(len(means), len(scores), share, interval, "bootstrap by question" if drawn else "Wilson", cut)


def column_of(run: EvalRun, title: str, source: str) -> Column:
    """A run as a column. In: its title, the file it is kept in. Raises PreflightError without the libraries."""
    return Column(title, source, {name: cell(run.of(name)) for name in run.sets()}, run)


def published(title: Published) -> Column:
    """A column of the vendor, as if every question of each set had been asked once.

    A share is taken as it was published: which number of right answers it was rounded from is not known.
    """
    cells: dict[SetName, Cell] = {}
    for name, row in SETS.items():
        if title in row.published:
            share = row.published[title] / 100
            cells[name] = Cell(row.size, row.size, share, wilson(share * row.size, row.size), "Wilson", None)
    return Column(title, SOURCES[title], cells)
