"""Runs of ``eval`` for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from r1deploy.assurance.evalcolumns import Column, column_of
from r1deploy.assurance.evalrows import EvalRun, EvalSettings, Score, SetName

ONE, OTHER = "a" * 64, "b" * 64


def scores(name: SetName, answers: Sequence[Sequence[bool]], **more: Any) -> list[Score]:
    """A question a row, its repeats in it."""
    return [
        Score(set=name, question=str(number), repeat=repeat, right=right, cut=False, **more)
        for number, row in enumerate(answers)
        for repeat, right in enumerate(row)
    ]


def settings(**more: Any) -> EvalSettings:
    """R1's sampling in the page's length."""
    return EvalSettings(**{"temperature": 0.6, "top_p": 0.95, "max_tokens": 4096, **more})


def run(rows: Sequence[Score], data: Mapping[SetName, str] | None = None, **more: Any) -> EvalRun:
    """A run of these answers, over the same data as every other one unless ``data`` says otherwise."""
    names = {row.set for row in rows}
    repeats = max((row.repeat for row in rows), default=0) + 1
    values = {
        "id": "one", "time": "2026-01-02T03:04:05Z", "cluster": "c", "release": "r1", "model": "m",
        "endpoint": "cluster", "versions": {"evalscope": "1"}, "settings": settings(repeats=repeats),
        "data": dict.fromkeys(names, ONE) | dict(data or {}), "margin": 2.0, "scores": list(rows),
    }  # fmt: skip
    return EvalRun(**{**values, **more})


def column(rows: Sequence[Score], title: str = "ours", **more: Any) -> Column:
    """The same as a column."""
    return column_of(run(rows, **more), title, f"{title}.json")


def first_right(right: int, of: int) -> list[list[bool]]:
    """So many questions, of which the first are right."""
    return [[number < right] for number in range(of)]
