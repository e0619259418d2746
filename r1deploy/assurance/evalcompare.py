"""Two kept runs, or two live endpoints, question by question. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from r1deploy.assurance.evalcolumns import Column
from r1deploy.assurance.evaljudge import Judgement, judge, pairs_of
from r1deploy.assurance.evalrows import SETS, EvalRun, FirstDifference, SetName
from r1deploy.planning.shardfindings import Memory


@dataclass(frozen=True)
class Agreement:
    """One set of two runs: questions that both answered, those that flipped, by who was right."""

    set: SetName
    questions: int
    here: int
    there: int

    @property
    def share(self) -> float:
        """Of the questions, those that are right in both or in neither."""
        return 1 - (self.here + self.there) / self.questions


@dataclass(frozen=True)
class Flip:
    """A question that most answers of one run had right, and not most of the other. In: the shares that are right."""

    set: SetName
    question: str
    here: float
    there: float


@dataclass(frozen=True)
class Comparison:
    """All of it. ``unlike``: what the runs do not share besides their answers; ``first``: where answers part."""

    judgement: Judgement
    agreements: tuple[Agreement, ...]
    flips: tuple[Flip, ...]
    unlike: tuple[str, ...]
    first: tuple[FirstDifference, ...] = ()


def compare(
    here: Column, there: Column, first: Iterable[FirstDifference] = (), memory: Memory | None = None
) -> Comparison:
    """``here`` against ``there``, by the margin that ``here`` was asked with. In: columns of runs.

    Raises ValueError for a column without a run, PreflightError without the libraries.
    """
    if here.run is None or there.run is None:
        raise ValueError("a published column has no questions to compare")
    agreements, flips = [], []
    for name in SETS:
        both = pairs_of(here.run, there.run, name)
        found = [Flip(name, question, *pair) for question, pair in both.items() if (pair[0] > 0.5) != (pair[1] > 0.5)]
        if both:
            better = sum(flip.here > 0.5 for flip in found)
            agreements.append(Agreement(name, len(both), better, len(found) - better))
        flips += found
    judged = judge(here, there, here.run.margin, memory)
    return Comparison(judged, tuple(agreements), tuple(flips), tuple(unlike(here.run, there.run)), tuple(first))


def unlike(here: EvalRun, there: EvalRun) -> list[str]:
    """What two runs do not share, each as ``name: here, there``; what they were asked, with what, about which data."""
    rows: list[tuple[str, Mapping[str, object], Mapping[str, object]]] = [
        ("", {"model": here.model, "margin": here.margin}, {"model": there.model, "margin": there.margin}),
        ("", here.settings.model_dump(), there.settings.model_dump()),
        ("version of ", here.versions, there.versions),
    ]
    said = [
        f"{what}{key}: {one.get(key, 'none')}, {other.get(key, 'none')}"
        for what, one, other in rows
        for key in dict.fromkeys((*one, *other))
        if one.get(key) != other.get(key)
    ]
    names = [name for name in SETS if name in here.data and name in there.data]
    other_data = [SETS[name].shown for name in names if here.data[name] != there.data[name]]
    return said + ([f"the data of {', '.join(other_data)}: so there are no pairs"] if other_data else [])


def first_difference(name: SetName, question: str, here: Sequence[str], there: Sequence[str]) -> FirstDifference | None:
    """Where two answers part. In: their tokens, at temperature 0. Out: None where they are the same."""
    for index, (one, other) in enumerate(zip_longest(here, there)):
        if one != other:
            shown = ((one or "")[:256], (other or "")[:256])
            return FirstDifference(set=name, question=question, index=index, here=shown[0], there=shown[1])
    return None
