"""The OpenAI-compatible endpoint: health, models, one completion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from r1deploy.errors import UnreachableError
from r1deploy.settings.model import Service

SHOWN = 300


@dataclass(frozen=True)
class Answer:
    """One chat completion: its text, what a reasoning parser split off it, and the tokens that the engine counted."""

    text: str
    tokens: int
    reasoning: str = ""

    @property
    def real(self) -> bool:
        """Whether the engine gave a token: a reasoning model may spend all it may say on its reasoning."""
        return self.tokens > 0 or bool(self.text or self.reasoning)

    @property
    def shown(self) -> str:
        """The answer for people: its text, else the beginning of the reasoning."""
        if self.text:
            return self.text
        if self.reasoning:
            more = " …" if len(self.reasoning) > SHOWN else ""
            return f"(still reasoning) {self.reasoning[:SHOWN]}{more}"
        return f"({self.tokens} tokens without text)"


class _Message(BaseModel):
    """vLLM calls it reasoning_content, and from 0.11 on reasoning."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


def answer_of(body: bytes) -> Answer | None:
    """The answer in the body of a chat completion; None where it is none."""
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError:
        return None
    message = completion.choices[0].message
    tokens = completion.usage.completion_tokens if completion.usage else None
    reasoning = message.reasoning_content or message.reasoning or ""
    return Answer((message.content or "").strip(), tokens or 0, reasoning.strip())


@dataclass(frozen=True)
class Address:
    """Where a model is served: the head's address, the port, and the model's id there."""

    host: str
    port: int
    model: str


class Endpoint:
    """The service on the head. Every method returns None where there is no usable answer yet.

    In: ``forward``, which brings a port of the head here over SSH and returns its URL:
    it is called once, when the head's address gives no answer (a jump host, a firewall).
    """

    def __init__(
        self, at: Address, service: Service, api_key: str | None, forward: Callable[[int], str] | None = None
    ) -> None:
        self.url = f"http://{at.host}:{at.port}"
        self._port, self._model, self._service = at.port, at.model, service
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._forward = forward
        self._clients = [self._client(self.url)]
        self.refused: str | None = None

    def _client(self, url: str) -> httpx.Client:
        # The proxies of the user's environment are for the internet, not for the cluster.
        timeout = httpx.Timeout(10, connect=3)
        return httpx.Client(base_url=url, timeout=timeout, headers=self._headers, trust_env=False)

    @property
    def reached(self) -> str:
        """The URL that gave the last answer: the head's address, or a port here that leads there."""
        return str(self._clients[0].base_url).rstrip("/")

    @property
    def direct(self) -> bool:
        """Whether the last answer came from the head's address itself."""
        return self.reached == self.url

    def _send(self, method: str, path: str, **how: Any) -> httpx.Response | None:
        """The first way that gives an answer, which is then the first to be tried."""
        for client in self._ways():
            try:
                answer = client.request(method, path, **how)
            except httpx.HTTPError:
                continue
            self._clients.remove(client)
            self._clients.insert(0, client)
            return answer
        return None

    def _ways(self) -> Iterator[httpx.Client]:
        yield from list(self._clients)
        if self._forward:
            forward, self._forward = self._forward, None
            try:
                client = self._client(forward(self._port))
            except UnreachableError as error:
                # The head's address may answer yet: it is asked again, and the gate tells of both.
                self.refused = error.message
                return
            self._clients.append(client)
            yield client

    def health(self) -> int | None:
        """Status of /health."""
        answer = self._send("GET", "/health")
        return answer.status_code if answer is not None else None

    def models(self) -> list[str] | None:
        """Model ids."""
        answer = self._send("GET", "/v1/models")
        try:
            listed = (
                _Models.model_validate_json(answer.content)
                if answer is not None and answer.status_code == 200
                else None
            )
        except ValidationError:
            return None
        return [row.id for row in listed.data] if listed else None

    def complete(self, seconds: float) -> Answer | None:
        """One chat completion; it may hold no token."""
        service = self._service
        request = {
            "model": self._model,
            "messages": [{"role": "user", "content": service.prompt}],
            "max_tokens": service.max_tokens,
        }
        answer = self._send("POST", "/v1/chat/completions", json=request, timeout=httpx.Timeout(seconds, connect=3))
        return answer_of(answer.content) if answer is not None and answer.status_code == 200 else None
