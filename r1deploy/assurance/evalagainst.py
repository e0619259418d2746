"""Two endpoints side by side: where their answers at temperature 0 part, and the questions that flipped, as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from r1deploy.assurance.evalcompare import Flip, first_difference
from r1deploy.assurance.evalendpoint import Asked
from r1deploy.assurance.evalfiles import Asked as Questions
from r1deploy.assurance.evalfiles import file_of, rows
from r1deploy.assurance.evalrows import FirstDifference, SetName
from r1deploy.planning.border import Part
from r1deploy.voice import Progress

# So many questions of each set, and so many tokens of each answer: it is a look, no test.
QUESTIONS, TOKENS = 4, 512


@dataclass(frozen=True)
class Prompt:
    """One question as it was asked."""

    set: SetName
    question: str
    text: str


def prompts(work: Path, asked: Questions) -> Iterator[Prompt]:
    """The first questions of each set, as evalscope asked them."""
    for name, subsets in asked.items():
        found = (Prompt(name, *row) for subset in subsets for row in _of_subset(work, name, subset))
        yield from sorted(found, key=lambda row: row.question)[:QUESTIONS]


def _of_subset(work: Path, name: SetName, subset: str) -> Iterator[tuple[str, str]]:
    for row in rows(file_of(work, "predictions", name, subset)):
        text = _said(row, "user")
        if text is not None and row.get("index") in range(QUESTIONS):
            yield f"{subset}/{row['index']}", text


class _Message(Part):
    role: str
    content: str | list[dict[str, Any]]

    @property
    def text(self) -> str:
        """What was said, with the reasoning that a parser of the engine split off."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(str(part.get("reasoning") or part.get("text") or "") for part in self.content)


class _Messages(Part):
    messages: tuple[_Message, ...]


def _said(row: Any, role: str) -> str | None:
    """The last words of a role in a line of evalscope's."""
    try:
        messages = _Messages.model_validate(row).messages
    except ValidationError:
        return None
    return next((one.text for one in reversed(messages) if one.role == role), None)


def parted(here: Asked, there: Asked, asked: Sequence[Prompt], bar: Progress) -> list[FirstDifference]:
    """Where the answers of two endpoints part; a question that one of them does not answer says nothing."""
    found = []
    for number, prompt in enumerate(asked):
        bar("first token", number, len(asked))
        try:
            one, other = here.pieces(prompt.text, TOKENS), there.pieces(prompt.text, TOKENS)
        except httpx.HTTPError:
            continue
        row = first_difference(prompt.set, prompt.question, *aligned(one, other))
        found += [row] if row else []
    bar("first token", len(asked), len(asked))
    return found


def aligned(here: Sequence[str], there: Sequence[str]) -> tuple[list[str], list[str]]:
    """Two answers in pieces that begin alike: an engine may send two tokens as one piece.

    The first pieces are those of ``here``; the last one of each is the one in which they part.
    """
    one, other = "".join(here), "".join(there)
    if one == other:
        return [], []
    same = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(one), len(other)) if same is None else same
    whole, at = [], 0
    for piece in here:
        if at + len(piece) > same:
            break
        whole.append(piece)
        at += len(piece)
    rest = [next(_from(pieces, at), "") for pieces in (here, there)]
    return [*whole, *rest[:1]], [*whole, *rest[1:]]


def _from(pieces: Sequence[str], start: int) -> Iterator[str]:
    """What is left of the pieces behind so many letters."""
    at = 0
    for piece in pieces:
        at += len(piece)
        if at > start:
            yield piece[max(len(piece) - (at - start), 0) :]


def write_flips(path: Path, flips: Sequence[Flip], works: tuple[Path, Path]) -> None:
    """The questions that flipped with both answers, a JSON line each. In: evalscope's folders, here and there."""
    with path.open("w", encoding="utf-8") as stream:
        for flip in flips:
            subset, _, index = flip.question.rpartition("/")
            row: dict[str, Any] = {"set": flip.set, "question": flip.question, "here": flip.here, "there": flip.there}
            for word, work in zip(("here", "there"), works, strict=True):
                line = _review(file_of(work, "reviews", flip.set, subset), int(index))
                row |= {"prompt": _said(line, "user"), "target": line.get("target")}
                row[f"answer_{word}"] = _said(line, "assistant")
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _review(path: Path, index: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows(path):
        found = row if isinstance(row, dict) and row.get("index") == index else found
    return found
