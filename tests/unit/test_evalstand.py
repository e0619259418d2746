"""The light engine by itself: it answers as its list says, keeps what was asked, and says that it is a stand-in."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.evalanswers import DATA, SETS, Score, answer_rows, questions
from tests.evalengine import MODEL, EvalEngine, engine

NOTE = "This is the r1deploy lab's stand-in engine, not DeepSeek-R1."


@pytest.fixture
def light(tmp_path: Path) -> Iterator[EvalEngine]:
    with engine(tmp_path / "answers.jsonl") as running:
        yield running


def post(light: EvalEngine, prompt: str, **more: object) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **more}
    headers = {"Authorization": f"Bearer {light.key or 'none'}"}
    return httpx.post(f"{light.url}/chat/completions", json=body, headers=headers, timeout=30, trust_env=False)


def choice(light: EvalEngine, prompt: str, **more: object) -> dict[str, Any]:
    done = post(light, prompt, **more)
    assert done.status_code == 200, done.text
    return dict(done.json()["choices"][0])


def streamed(light: EvalEngine, prompt: str) -> tuple[str, str, str]:
    """Reasoning, text and the reason of the end, put together from the events."""
    events = [line[6:] for line in post(light, prompt, stream=True).text.splitlines() if line]
    assert events.pop() == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events]
    deltas = [choice["delta"] for choice in choices]
    parts = ["".join(delta.get(key) or "" for delta in deltas) for key in ("reasoning_content", "content")]
    return parts[0], parts[1], choices[-1]["finish_reason"]


def answered(light: EvalEngine, number: int) -> Counter[str]:
    """Answers that came to their end: the engine writes one down after its client has it, so wait for the last."""
    end = time.monotonic() + 5
    while light.counts("answered").total() < number and time.monotonic() < end:
        time.sleep(0.05)
    return light.counts("answered")


def test_it_answers_by_list_and_as_ever_where_nothing_is_told(light: EvalEngine) -> None:
    assert choice(light, "how many?")["message"]["content"].startswith(f"{NOTE} You asked: «how many?»")
    assert light.record() == []
    light.tell([{"match": "3 + 4", "answer": "\\boxed{7}"}, {"match": "3", "answer": "\\boxed{3}"}])
    found = [choice(light, prompt)["message"]["content"] for prompt in ("what is 3 + 4?", "and 3?", "how many?")]
    assert found == [f"{NOTE}\n\\boxed{{7}}", f"{NOTE}\n\\boxed{{3}}", f"{NOTE} You asked: «how many?»"]
    assert light.counts() == answered(light, 3) == {"3 + 4": 1, "3": 1, None: 1}


THINKING = {"match": "q", "think": "maybe 5\nno", "answer": "it is 6"}


@pytest.mark.parametrize(
    ("more", "reasoning", "text", "end"),
    [
        ({}, "", "maybe 5\nno\n</think>\n\nit is 6", "stop"),
        ({"paired": True}, "", "<think>\nmaybe 5\nno\n</think>\n\nit is 6", "stop"),
        ({"parsed": True}, "maybe 5\nno", "it is 6", "stop"),
        ({"finish": "length"}, "", "maybe 5\nno", "length"),
        ({"finish": "length", "think": ""}, "", "it is 6", "length"),
        ({"finish": "length", "parsed": True}, "maybe 5\nno", "", "length"),
    ],
)
def test_thinking_and_cuts(light: EvalEngine, more: dict[str, object], reasoning: str, text: str, end: str) -> None:
    light.tell([THINKING | more])
    whole = choice(light, "q?")
    assert whole["finish_reason"] == end
    told = [whole["message"][key] or "" for key in ("reasoning_content", "content")]
    assert told == ([f"{NOTE}\n{reasoning}", text] if reasoning else ["", f"{NOTE}\n{text}"])
    assert streamed(light, "q?") == (*told, end)


def test_the_request_s_own_limit_cuts_too(light: EvalEngine) -> None:
    light.tell([THINKING])
    short = choice(light, "q?", max_tokens=3)
    assert (short["message"]["content"], short["finish_reason"]) == ("This is the", "length")
    refused = post(light, "q?", max_tokens=40000)
    assert refused.status_code == 400 and "maximum context length is 32768" in refused.json()["message"]
    assert light.counts() == {"q": 1}


def test_errors_come_first_and_a_restart_does_not_begin_again(light: EvalEngine) -> None:
    light.tell([{"match": "q", "answer": "yes", "status": 500, "times": 3}, {"match": "other", "answer": "no"}])
    assert [post(light, "q").status_code for _ in range(2)] == [500, 500]
    port = light.port
    light.end(signal.SIGKILL)
    light.start()
    assert light.port == port
    assert [post(light, prompt).status_code for prompt in ("q", "q", "other")] == [500, 200, 200]
    assert light.counts() == {"q": 4, "other": 1}
    assert answered(light, 2) == {"q": 1, "other": 1}


def test_an_answer_may_hang_on_the_seed(light: EvalEngine) -> None:
    light.tell([{"match": "q", "seed": 1, "answer": "one"}, {"match": "q", "answer": "any"}])
    found = [choice(light, "q", **more)["message"]["content"] for more in ({"seed": 1}, {"seed": 2}, {})]
    assert found == [f"{NOTE}\n{word}" for word in ("one", "any", "any")]
    assert [row["seed"] for row in light.record() if row["event"] == "asked"] == [1, 2, None]


def test_the_key_is_asked_for(tmp_path: Path) -> None:
    with engine(tmp_path / "answers.jsonl", key="k") as light:
        assert post(light, "q").status_code == 200
        light.key = "another"
        assert post(light, "q").status_code == 401


@pytest.mark.parametrize("name", SETS)
def test_a_question_is_found_by_its_text(name: str) -> None:
    """No question's text is part of another one's, nor of an example that stands before it in the prompt."""
    texts = [question.text for other in SETS for question in questions(other)]
    assert 6 <= len(questions(name)) <= 12
    for question in questions(name):
        assert sum(question.text in text for text in texts) == 1
        examples = [path.read_text("utf-8") for path in (DATA / name).glob("*.jsonl")]
        assert sum(text.count(json.dumps(question.text, ensure_ascii=False)[1:-1]) for text in examples) == 1
        assert question.right != question.wrong


def test_the_list_and_its_scores() -> None:
    rows, scores = answer_rows({"gsm8k": [0, 2]}, {"gsm8k": [2, 3], "mmlu": [7]}, seed=4)
    assert len(rows) == sum(score.asked for score in scores.values()) == 41
    assert scores["gsm8k"] == Score(8, 5, 2) and scores["mmlu"] == Score(8, 7, 1) and scores["aime24"] == Score(6, 6, 0)
    assert {row["seed"] for row in rows} == {4}
    assert "999999" in str(rows[0]["answer"]) and "\\boxed{125}" in str(rows[0]["think"])
    assert "\\boxed{20}" in str(rows[1]["answer"]) and "answer" not in rows[3]
