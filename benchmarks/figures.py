"""What was measured, as numbers: a list a quantity, one number a round. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# Quantity → a number a round: "wall" and "cpu" in seconds, the others in MiB.
Rows = dict[str, list[float]]
# Case (how many hosts, what is sent) → way of doing it → what it took.
Cases = dict[str, dict[str, Rows]]


@dataclass
class Found:
    """What a part of the benchmark found, and what a reader has to know to read it."""

    cases: Cases
    notes: list[str] = field(default_factory=list)


class Spread(NamedTuple):
    """The least, the median and the most of several numbers."""

    least: float
    median: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError where there are no numbers."""
    if not values:
        raise ValueError("nothing was measured")
    return Spread(min(values), statistics.median(values), max(values))


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round: what was slow in one round was slow for both. Raises ValueError where rounds are missing."""
    return [one / other for one, other in zip(above, below, strict=True)]


def medians(cases: Cases) -> dict[str, dict[str, float]]:
    """Case → way → median seconds of wall."""
    return {case: {way: spread(rows["wall"]).median for way, rows in ways.items()} for case, ways in cases.items()}


def ratios_of(ways: Mapping[str, Rows], pair: tuple[str, str, str]) -> Spread | None:
    """The ratio of two ways in one quantity. In: quantity, way above, way below. None: one of them was not measured."""
    quantity, above, below = pair
    if not ({above, below} <= ways.keys() and quantity in ways[above] and quantity in ways[below]):
        return None
    return spread(ratios(ways[above][quantity], ways[below][quantity]))
