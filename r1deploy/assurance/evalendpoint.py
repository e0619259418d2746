"""An endpoint as eval asks it, wherever it is: its model, its length, its version, one answer as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import Field, ValidationError

from r1deploy.assurance.evalrows import Short
from r1deploy.planning.border import Count, Part, Text

SECONDS = httpx.Timeout(30, connect=5)
# Of a list of models, of a version; a model's list is not endless.
LONGEST_ANSWER = 1 << 20


class _Model(Part):
    id: Text
    max_model_len: Count | None = None


class _Models(Part):
    data: tuple[_Model, ...]


class _Version(Part):
    version: Short


class _Delta(Part):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(Part):
    delta: _Delta


class _Piece(Part):
    choices: tuple[_Choice, ...] = Field(default=())


@dataclass(frozen=True)
class Asked:
    """An endpoint. ``url``: without ``/v1``; ``inside``: it is the cluster's, so no proxy of the user's is between."""

    url: str
    model: str
    key: str | None = field(repr=False)
    inside: bool

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=SECONDS, trust_env=not self.inside)

    def _get(self, path: str) -> bytes | None:
        try:
            with self._client() as client, client.stream("GET", path) as answer:
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > LONGEST_ANSWER:
                        return None
                return body if answer.status_code == 200 else None
        except httpx.HTTPError:
            return None

    def models(self) -> dict[str, int | None] | None:
        """Models and the length of each, None where the endpoint does not say; None: no usable answer."""
        try:
            body = self._get("/v1/models")
            return {row.id: row.max_model_len for row in _Models.model_validate_json(body).data} if body else None
        except ValidationError:
            return None

    @property
    def answers(self) -> bool:
        """Whether it is there and has the model."""
        return self.model in (self.models() or {})

    def version(self) -> str:
        """The engine's version; ``unknown`` where it does not say."""
        try:
            return _Version.model_validate_json(self._get("/version") or b"").version
        except ValidationError:
            return "unknown"

    def pieces(self, prompt: str, tokens: int) -> list[str]:
        """The answer at temperature 0, piece by piece as it is sent. In: tokens at the most.

        Raises httpx.HTTPError, also for an answer that is not 200.
        """
        asked = {"model": self.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
        asked |= {"temperature": 0, "stream": True}
        with self._client() as client, client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            answer.raise_for_status()
            return [text for line in answer.iter_lines() for text in _texts(line)]


def _texts(line: str) -> Iterator[str]:
    """The text of one event of a stream."""
    if not line.startswith("data: ") or line == "data: [DONE]":
        return
    try:
        piece: Any = _Piece.model_validate(json.loads(line.removeprefix("data: ")))
    except ValueError:
        return
    for choice in piece.choices:
        text = choice.delta.content or choice.delta.reasoning_content or choice.delta.reasoning
        if text:
            yield text
