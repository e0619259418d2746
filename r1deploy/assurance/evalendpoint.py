"""An endpoint as eval asks it, wherever it is: its model, its length, its version, one answer as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
from pydantic import Field, ValidationError

from r1deploy.assurance.evalrows import Short
from r1deploy.planning.border import Count, Part, Text

SECONDS = httpx.Timeout(30, connect=5)
# Of a list of models, of a version, of one streamed answer: neither is endless, in bytes or in seconds.
LONGEST_ANSWER, SLOWEST_ANSWER = 1 << 20, 600


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
                body = _whole(answer)
                return body if answer.status_code == 200 else None
        except (httpx.HTTPError, httpx.InvalidURL):
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

        Raises httpx.HTTPError, also for an answer that is not 200, or that does not end.
        """
        asked = {"model": self.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
        asked |= {"temperature": 0, "stream": True}
        with self._client() as client, client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            answer.raise_for_status()
            return [text for line in _whole(answer).splitlines() for text in _texts(line)]


def _whole(answer: httpx.Response) -> bytes:
    """All of an answer. Raises httpx.HTTPError, also where it does not end."""
    until, body = time.monotonic() + SLOWEST_ANSWER, b""
    for part in answer.iter_bytes():
        body += part
        if len(body) > LONGEST_ANSWER or time.monotonic() > until:
            raise httpx.ReadError(f"more than {LONGEST_ANSWER} bytes or {SLOWEST_ANSWER} s")
    return body


def _texts(line: bytes) -> Iterator[str]:
    """The text of one event of a stream."""
    if not line.startswith(b"data: "):
        return
    try:
        piece = _Piece.model_validate_json(line.removeprefix(b"data: "))
    except ValidationError:
        return
    for choice in piece.choices:
        text = choice.delta.content or choice.delta.reasoning_content or choice.delta.reasoning
        if text:
            yield text
