"""The OpenAI-compatible endpoint: health, models, one completion."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from r1deploy.settings.model import Service


@dataclass(frozen=True)
class Answer:
    """One chat completion: its text, and the tokens that the engine counted."""

    text: str
    tokens: int


class Endpoint:
    """The service on the head. Every method returns None where there is no usable answer yet."""

    def __init__(self, address: str, port: int, model: str, service: Service, api_key: str | None) -> None:
        self.url = f"http://{address}:{port}"
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # The proxies of the user's environment are for the internet, not for the cluster.
        self._client = httpx.Client(base_url=self.url, timeout=10, headers=headers, trust_env=False)
        self._model, self._service = model, service

    def health(self) -> int | None:
        """Status of /health."""
        try:
            return self._client.get("/health").status_code
        except httpx.HTTPError:
            return None

    def models(self) -> list[str] | None:
        """Model ids."""
        try:
            answer = self._client.get("/v1/models")
            return [str(row["id"]) for row in answer.json()["data"]] if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    def complete(self, seconds: float) -> Answer | None:
        """One chat completion; its text may be empty."""
        service = self._service
        request = {
            "model": self._model,
            "messages": [{"role": "user", "content": service.prompt}],
            "max_tokens": service.max_tokens,
        }
        try:
            answer = self._client.post("/v1/chat/completions", json=request, timeout=seconds)
            if answer.status_code != 200:
                return None
            body = answer.json()
            text = body["choices"][0]["message"].get("content") or ""
            return Answer(text.strip(), int((body.get("usage") or {}).get("completion_tokens") or 0))
        except (httpx.HTTPError, ValueError, KeyError, IndexError):
            return None
