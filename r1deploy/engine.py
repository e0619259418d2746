"""The OpenAI-compatible endpoint: health, models, one completion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from r1deploy.errors import UnreachableError
from r1deploy.settings.model import Service


@dataclass(frozen=True)
class Answer:
    """One chat completion: its text, and the tokens that the engine counted."""

    text: str
    tokens: int


class Endpoint:
    """The service on the head. Every method returns None where there is no usable answer yet.

    In: ``forward``, which brings a port of the head here over SSH and returns its URL:
    it is called once, when the head's address gives no answer (a jump host, a firewall).
    """

    def __init__(
        self,
        address: str,
        port: int,
        model: str,
        service: Service,
        api_key: str | None,
        forward: Callable[[int], str] | None = None,
    ) -> None:
        self.url = f"http://{address}:{port}"
        self._port, self._model, self._service = port, model, service
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._forward = forward
        self._clients = [self._client(self.url)]
        self.refused: str | None = None

    def _client(self, url: str) -> httpx.Client:
        # The proxies of the user's environment are for the internet, not for the cluster.
        timeout = httpx.Timeout(10, connect=3)
        return httpx.Client(base_url=url, timeout=timeout, headers=self._headers, trust_env=False)

    @property
    def direct(self) -> bool:
        """Whether the last answer came from the head's address itself."""
        return str(self._clients[0].base_url).rstrip("/") == self.url

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
        return answer.status_code if answer else None

    def models(self) -> list[str] | None:
        """Model ids."""
        answer = self._send("GET", "/v1/models")
        try:
            return [str(row["id"]) for row in answer.json()["data"]] if answer and answer.status_code == 200 else None
        except (ValueError, KeyError):
            return None

    def complete(self, seconds: float) -> Answer | None:
        """One chat completion; its text may be empty."""
        service = self._service
        request = {
            "model": self._model,
            "messages": [{"role": "user", "content": service.prompt}],
            "max_tokens": service.max_tokens,
        }
        answer = self._send("POST", "/v1/chat/completions", json=request, timeout=httpx.Timeout(seconds, connect=3))
        if answer is None or answer.status_code != 200:
            return None
        try:
            body = answer.json()
            text = body["choices"][0]["message"].get("content") or ""
            return Answer(text.strip(), int((body.get("usage") or {}).get("completion_tokens") or 0))
        except (ValueError, KeyError, IndexError):
            return None
