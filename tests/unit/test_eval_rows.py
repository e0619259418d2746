"""A kept run of ``eval`` is read back whole or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from r1deploy.assurance.evalrows import SETS, run_in
from tests.unit.evaluations import first_right, run, scores, settings


def test_a_run_comes_back_as_it_was_kept() -> None:
    kept = run(scores("gsm8k", [[True, False]], tokens=7, prompt_tokens=3), settings=settings(repeats=2, seeds=[1, 2]))
    assert run_in(kept.model_dump_json()) == kept
    assert run_in(kept.model_dump_json().encode()) == kept


def test_sets_are_in_the_order_of_the_page() -> None:
    found = run([*scores("aime24", [[True]]), *scores("gsm8k", [[True], [False]])])
    assert found.sets() == ["gsm8k", "aime24"]
    assert [score.right for score in found.of("gsm8k")] == [True, False]
    assert [row.size for row in SETS.values()] == [1319, 14042, 1346, 500, 198, 30]


KEPT = json.loads(run(scores("gsm8k", first_right(1, 2))).model_dump_json())


def changed(path: str, value: Any) -> str:
    """The kept run with one value set; an index is a number."""
    found = json.loads(json.dumps(KEPT))
    place: Any = found
    *way, last = (int(word) if word.isdigit() else word for word in path.split("/"))
    for word in way:
        place = place[word]
    place[last] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("more", 1),
        ("id", "../up"),
        ("time", "yesterday"),
        ("endpoint", "elsewhere"),
        ("margin", 0),
        ("margin", "2"),
        ("data/gsm8k", "short"),
        ("data/other", "a" * 64),
        ("settings/temperature", -1),
        ("settings/top_p", 2.0),
        ("settings/repeats", 0),
        ("scores/0/right", 1),
        ("scores/0/right", "true"),
        ("scores/0/cut", None),
        ("scores/0/tokens", -1),
        ("scores/0/set", "mmlu"),
        ("scores/0/repeat", 1),
        ("scores/0/question", "1"),
        ("settings/seeds", [1, 2]),
    ],
)
def test_what_was_not_written_so_is_refused(path: str, value: Any) -> None:
    assert run_in(json.dumps(KEPT)).scores
    with pytest.raises(ValidationError):
        run_in(changed(path, value))


def test_repeats_have_seeds_that_differ() -> None:
    with pytest.raises(ValidationError, match="one seed for each repeat"):
        run(scores("gsm8k", [[True, True]]), settings=settings(repeats=2, seeds=[5, 5]))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "[" * 100_000, '{"id": NaN}'])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        run_in(text)
