"""What evalscope wrote down of a run, read back as scores: one prediction and one review a question."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from r1deploy.assurance.evalasking import MODEL
from r1deploy.assurance.evalrows import Score, SetName
from r1deploy.planning.border import Count, Part

T = TypeVar("T", bound=Part)
# Of one answer: what a model thinks in 160 000 tokens, and the question, each written down twice.
LONGEST_LINE = 32 << 20
BLOCK = 1 << 20
# The answer ended at max_tokens, or question and answer do not fit into the model's length.
CUT = ("max_tokens", "model_length")
# Set → subject → how many questions.
Asked = dict[SetName, dict[str, int]]


class _Usage(Part):
    input_tokens: Count | None = None
    output_tokens: Count | None = None


class _Choice(Part):
    stop_reason: str


class _Output(Part):
    choices: tuple[_Choice, ...] = Field(min_length=1)
    usage: _Usage | None = None


class _Prediction(Part):
    index: Count
    model_output: _Output


class _Value(Part):
    value: dict[str, float] = Field(min_length=1)
    main_score_name: str | None
    status: Literal["success"]

    @property
    def right(self) -> bool:
        """Whether the answer is right; not every set names which of its scores is meant, where it has one only."""
        name = self.main_score_name or next(iter(self.value))
        return self.value.get(name) == 1.0


class _SampleScore(Part):
    score: _Value


class _Review(Part):
    index: Count
    sample_score: _SampleScore


def rows(path: Path) -> Iterator[Any]:
    """The JSON lines of a file; a line that is half written, or too long, is none."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        while line := stream.readline(LONGEST_LINE):
            try:
                yield json.loads(line)
            except ValueError:
                continue


def mend(work: Path) -> None:
    """Take half lines off the ends of files: evalscope would write its next line onto one, and lose it."""
    for path in work.glob("*/*/*.jsonl"):
        with path.open("rb+") as stream:
            size = end = stream.seek(0, os.SEEK_END)
            while end:
                start = max(end - BLOCK, 0)
                stream.seek(start)
                at = stream.read(end - start).rfind(b"\n")
                end = start + at + 1 if at >= 0 else start
                if at >= 0:
                    break
            if end < size:
                stream.truncate(end)


def file_of(work: Path, kind: str, name: str, subset: str) -> Path:
    """A file of evalscope's. In: ``predictions`` or ``reviews``."""
    return work / kind / MODEL / f"{name}_{subset}.jsonl"


def scores(work: Path, asked: Asked, repeat: int) -> list[Score]:
    """The answers of a run that are there and judged. In: what was asked, and as which repeat."""
    return [
        score
        for name, subsets in asked.items()
        for subset in subsets
        for score in _of_subset(work, name, subset, repeat)
    ]


def _of_subset(work: Path, name: SetName, subset: str, repeat: int) -> Iterator[Score]:
    outputs = {row.index: row.model_output for row in _read(_Prediction, file_of(work, "predictions", name, subset))}
    rights = {row.index: row.sample_score.score.right for row in _read(_Review, file_of(work, "reviews", name, subset))}
    for index in sorted(outputs.keys() & rights.keys()):
        reason, usage = outputs[index].choices[0].stop_reason, outputs[index].usage or _Usage()
        yield Score(
            set=name,
            question=f"{subset}/{index}",
            repeat=repeat,
            # Of a question that does not fit the refusal stands in the answer's place.
            right=rights[index] and reason != "model_length",
            cut=reason in CUT,
            tokens=usage.output_tokens,
            prompt_tokens=usage.input_tokens,
        )


def _read(kind: type[T], path: Path) -> Iterator[T]:
    for row in rows(path):
        try:
            yield kind.model_validate(row)
        except ValidationError:
            continue


@dataclass
class Counted:
    """How many answers of each set are written down, without reading any line twice. In: evalscope's folder."""

    work: Path
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def done(self, name: SetName, subsets: Iterable[str]) -> int:
        """Answers of a set. In: its subjects."""
        return sum(self._lines(file_of(self.work, "predictions", name, subset)) for subset in subsets)

    def _lines(self, path: Path) -> int:
        offset, count = self._seen.get(path, (0, 0))
        if not path.exists() or path.stat().st_size == offset:
            return count
        with path.open("rb") as stream:
            stream.seek(offset)
            while block := stream.read(BLOCK):
                count += block.count(b"\n")
            self._seen[path] = (stream.tell(), count)
        return count
