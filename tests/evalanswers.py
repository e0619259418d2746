"""Lists of answers for the question sets of tests/data/eval: right, wrong or cut, and the scores to expect."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent / "data" / "eval"
SETS = ("gsm8k", "mmlu", "ceval", "math_500", "gpqa_diamond", "aime24")
CEVAL = ("computer_network", "high_school_geography")
FILES = {
    "gsm8k": ("test.jsonl",),
    "mmlu": ("test.jsonl",),
    "ceval": tuple(f"{subject}_val.jsonl" for subject in CEVAL),
    "math_500": ("test.jsonl",),
    "gpqa_diamond": ("train.jsonl",),
    "aime24": ("test.jsonl",),
}
QUESTION = {"math_500": "problem", "aime24": "problem", "gpqa_diamond": "Question"}


@dataclass(frozen=True)
class Question:
    """One question: its set, its number in the set from 0, its text, and a right and a wrong last line."""

    name: str
    number: int
    text: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Score:
    """What a set's result has to be: questions, how many are right, and how many were cut by length."""

    asked: int
    right: int
    cut: int


def questions(name: str) -> list[Question]:
    """Return a set's questions in the order of its files."""
    lines = [line for file in FILES[name] for line in (DATA / name / file).read_text("utf-8").splitlines()]
    rows = [json.loads(line) for line in lines]
    return [
        Question(name, number, row[QUESTION.get(name, "question")], *last_lines(name, row))
        for number, row in enumerate(rows)
    ]


def last_lines(name: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """The right and a wrong last line, as the set's prompt asks for it."""
    if name in ("mmlu", "ceval", "gpqa_diamond"):
        mark = "答案：" if name == "ceval" else "ANSWER: "
        letter = {"mmlu": mmlu_letter, "ceval": lambda row: row["answer"], "gpqa_diamond": gpqa_letter}[name](row)
        return f"{mark}{letter}", f"{mark}{'ABCD'['BCDA'.index(letter)]}"
    value = row["answer"].split("####")[-1].strip()
    return f"\\boxed{{{value}}}", "\\boxed{999999}" if name != "aime24" else "\\boxed{998}"


def mmlu_letter(row: Mapping[str, Any]) -> str:
    """MMLU counts its choices from 0."""
    return "ABCD"[row["answer"]]


def gpqa_letter(row: Mapping[str, Any]) -> str:
    """evalscope shuffles the choices by the question's digest, the right one last before."""
    choices = [row[f"Incorrect Answer {number}"] for number in (1, 2, 3)] + [row["Correct Answer"]]
    seed = int.from_bytes(hashlib.sha256(row["Question"].strip().encode()).digest()[:8], "big")
    random.Random(seed).shuffle(choices)
    return "ABCD"[choices.index(row["Correct Answer"])]


def answer_rows(
    wrong: Mapping[str, Iterable[int]], cut: Mapping[str, Iterable[int]], decoys: bool = True, **more: object
) -> tuple[list[dict[str, object]], dict[str, Score]]:
    """Return the list of answers for all six sets, and the scores to expect.

    ``wrong`` and ``cut`` name question numbers of a set; all others are right. With ``decoys`` the engine thinks
    first, and says the other answer there as it says a result. Where all before </think> is not removed, evalscope
    then finds two results in GSM8K, MATH-500 and AIME, and nothing is right; the other three sets stay as they are.
    ``more`` is put into every row (see the stand-in's lab_answers.py): seed, paired, delay, …
    """
    rows: list[dict[str, object]] = []
    scores: dict[str, Score] = {}
    for name in SETS:
        bad, short = set(wrong.get(name, ())), set(cut.get(name, ()))
        asked = questions(name)
        rows += [row(question, question.number in bad, question.number in short, decoys) | more for question in asked]
        scores[name] = Score(len(asked), len(asked) - len(bad | short), len(short))
    return rows, scores


def row(question: Question, wrong: bool, cut: bool, decoys: bool) -> dict[str, object]:
    """One row of the list. An answer that is cut has got to no result."""
    given, other = (question.wrong, question.right) if wrong else (question.right, question.wrong)
    if cut:
        return {"match": question.text, "think": "So let me see. First I will", "finish": "length"}
    told: dict[str, object] = {"match": question.text, "answer": f"It follows that\n{given}", "finish": "stop"}
    if decoys:
        told["think"] = f"Perhaps it is this one?\n{other}\nNo, I had better look again."
    return told
