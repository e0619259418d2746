"""What ``eval`` keeps of a run: a row for each answer, read back whole or refused; and the six sets. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from r1deploy.planning.border import Count, Name, Text

SetName = Literal["gsm8k", "mmlu", "ceval", "math_500", "gpqa_diamond", "aime24"]
Published = Literal["H100", "INT8", "INT4"]
MOST_REPEATS = 1024
# Of one set all questions, with some repeats: a kept file is not endless.
MOST_SCORES = 2**21

Id = Annotated[str, Field(min_length=1, max_length=256)]
Short = Annotated[str, Field(max_length=256)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Points = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Repeats = Annotated[int, Field(ge=1, le=MOST_REPEATS)]
Positive = Annotated[int, Field(ge=1, le=2**53)]


@dataclass(frozen=True)
class EvalSet:
    """A benchmark: evalscope's name, the name for people, how many questions, the published columns in percent.

    A column that is missing was not published ("TBD"). H100 and INT8 are the vendor's page, INT4 its other card.
    """

    name: SetName
    shown: str
    size: int
    published: dict[Published, float]


SETS: dict[SetName, EvalSet] = {
    row.name: row
    for row in (
        EvalSet("gsm8k", "GSM8K", 1319, {"H100": 95.75, "INT8": 95.53}),
        EvalSet("mmlu", "MMLU", 14042, {"H100": 85.34, "INT8": 82.16, "INT4": 85.02}),
        EvalSet("ceval", "C-Eval", 1346, {"H100": 89.00, "INT8": 80.31, "INT4": 88.78}),
        EvalSet("math_500", "MATH-500", 500, {"H100": 93.20}),
        EvalSet("gpqa_diamond", "GPQA-Diamond", 198, {"H100": 70.20}),
        EvalSet("aime24", "AIME 2024", 30, {"H100": 76.67}),
    )
}


class Kept(BaseModel):
    """Base: what r1deploy wrote itself, so nothing is added and nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Score(Kept):
    """One answer. ``question`` is the same in every run over the same data; ``cut``: it ended at a length.

    ``tokens`` and ``prompt_tokens`` are those of the answer and of the prompt, None where the endpoint did not say.
    """

    set: SetName
    question: Id
    repeat: Count = 0
    right: bool
    cut: bool
    tokens: Count | None = None
    prompt_tokens: Count | None = None


class EvalSettings(Kept):
    """How the questions were asked. ``limit``: the first so many of each subject, None for all.

    ``seeds``: one a repeat, or empty where none was given. ``max_model_len`` is None where it is not known.
    """

    temperature: Temperature
    top_p: Share
    max_tokens: Positive
    seeds: Annotated[list[Count], Field(max_length=MOST_REPEATS)] = Field(default_factory=list)
    repeats: Repeats = 1
    limit: Positive | None = None
    max_model_len: Positive | None = None


class EvalRun(Kept):
    """A run, whole. ``margin``: percentage points that a score may lie lower, stated before the run.

    ``release`` is "" where the endpoint is no release of ours. ``data``: the sha256 of each set's questions.
    ``asked``: how many questions each set has, where it is known: some may have no answer.
    """

    id: Name
    time: Time
    cluster: Short
    release: Short
    model: Text
    endpoint: Literal["cluster", "url"]
    versions: dict[Short, Short]
    settings: EvalSettings
    data: dict[SetName, Sha256]
    margin: Points
    asked: dict[SetName, Count] = Field(default_factory=dict)
    scores: Annotated[list[Score], Field(max_length=MOST_SCORES)]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        """A repeat has a seed of its own, a set has its data, an answer is there once."""
        seeds, repeats = self.settings.seeds, self.settings.repeats
        if seeds and (len(seeds) != repeats or len(set(seeds)) != repeats):
            raise ValueError("it does not have one seed for each repeat")
        without = sorted({score.set for score in self.scores} - set(self.data))
        if without:
            raise ValueError(f"it has answers but no data of {', '.join(without)}")
        if any(score.repeat >= repeats for score in self.scores):
            raise ValueError("it has an answer of a repeat that was not asked")
        times = Counter((score.set, score.question, score.repeat) for score in self.scores)
        twice = [key for key, number in times.items() if number > 1]
        if twice:
            raise ValueError(f"it has two answers to {twice[0][1]} of {twice[0][0]}")
        return self

    def sets(self) -> list[SetName]:
        """The sets that have answers, in the order of the page."""
        there = {score.set for score in self.scores}
        return [name for name in SETS if name in there]

    def unanswered(self, name: SetName) -> int:
        """Answers of one set that did not come; 0 where it is not known how many were asked."""
        return max(self.asked.get(name, 0) * self.settings.repeats - len(self.of(name)), 0)

    def of(self, name: SetName) -> list[Score]:
        """The answers of one set."""
        return [score for score in self.scores if score.set == name]


def run_in(text: str | bytes) -> EvalRun:
    """A kept file as a run. Raises ValueError (pydantic's) where it is not what was written."""
    return EvalRun.model_validate_json(text)


class FirstDifference(Kept):
    """Where two answers to one question at temperature 0 part: the tokens there; "" where an answer was over."""

    set: SetName
    question: Id
    index: Count
    here: Short
    there: Short
