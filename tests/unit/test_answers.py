"""What counts as an answer of the engine, when the last one came, and how both are told (field.md 4.10, 4.11)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1deploy.planning.recorded import Active, Record
from r1deploy.planning.whatserves import Serving
from r1deploy.serving.answers import last_answer, memory, remember
from r1deploy.serving.endpoint import Answer, answer_of
from tests.unit.test_serving import RECORD


def body(message: Any, usage: Any = None, reason: str = "stop") -> bytes:
    choice = {"index": 0, "finish_reason": reason, "message": message}
    return json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize(
    ("message", "usage", "shown"),
    [
        ({"role": "assistant", "content": "Paris."}, None, "Paris."),
        ({"content": None, "reasoning_content": "Okay, the user"}, {"completion_tokens": 64}, "(still reasoning) Okay"),
        ({"content": "", "reasoning_content": "Okay, the user"}, None, "(still reasoning) Okay, the user"),
        ({"content": None, "reasoning": "Hm"}, None, "(still reasoning) Hm"),
        ({"content": None}, {"completion_tokens": 3}, "(3 tokens without text)"),
        ({"content": "Paris.", "reasoning_content": "Hm"}, {"completion_tokens": None}, "Paris."),
    ],
)
def test_tokens_are_tokens(message: dict[str, Any], usage: Any, shown: str) -> None:
    """field.md 4.10: a reasoning parser leaves the content empty, and the limit may come before the answer."""
    answer = answer_of(body(message, usage, "length"))
    assert answer is not None and answer.real and answer.shown.startswith(shown)


@pytest.mark.parametrize(
    ("message", "usage"),
    [
        ({"content": ""}, {"completion_tokens": 0}),
        ({"content": None, "reasoning_content": None}, None),
        ({"content": "  "}, None),
    ],
)
def test_no_token_is_no_answer(message: dict[str, Any], usage: Any) -> None:
    answer = answer_of(body(message, usage))
    assert answer is not None and not answer.real


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [7]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": {"a": 1}}}]}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": "many"}}',
        b"\xff\xfe",
    ],
)
def test_another_shape_is_no_answer(data: bytes) -> None:
    """field.md 1.3: what answers on the engine's port need not be an engine."""
    assert answer_of(data) is None


def test_a_long_reasoning_is_cut_for_people() -> None:
    answer = Answer("", 900, "why " * 500)
    assert len(answer.shown) < 350 and answer.shown.endswith("…")


def active(answered: str | None) -> Active:
    return Active(release="aaaaaaaaaaaa", config="bbbbbbbbbbbb", proven=True, answered=answered)


def test_the_newest_answer_that_anybody_knows_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 4.11: the gate's on the hosts, later ones on this machine; of another release none."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    record = Record.model_validate(RECORD)
    old = "2020-01-01T00:00:00+00:00"
    assert last_answer("c", Serving(active(None), record)) is None
    assert last_answer("c", Serving(active(old), record)) == old
    remember("c", record)
    assert (last_answer("c", Serving(active(old), record)) or "") > old
    other = record.model_copy(update={"config": "cccccccccccc"})
    remember("c", other)
    assert last_answer("c", Serving(active(old), record)) == old
    for text in ("", "[]", "{", '{"name": "aaaaaaaaaaaa/bbbbbbbbbbbb", "time": "soon"}'):
        memory("c").write_text(text)
        assert last_answer("c", Serving(active(old), record)) == old
    assert last_answer("c", Serving(active("soon"), record)) is None
