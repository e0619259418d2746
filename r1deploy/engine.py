"""The OpenAI-compatible endpoint: health, models, one completion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx

from r1deploy.errors import ConfigError
from r1deploy.settings.model import Settings


@dataclass(frozen=True)
class Answer:
    """One chat completion: its text, and the tokens that the engine counted."""

    text: str
    tokens: int


class Endpoint:
    """The service on the head. Every method returns None where there is no usable answer yet."""

    def __init__(self, address: str, settings: Settings) -> None:
        self.url = f"http://{address}:{settings.engine.port}"
        headers = {}
        if settings.service.api_key_file:
            headers["Authorization"] = f"Bearer {api_key(settings.service.api_key_file)}"
        # The proxies of the user's environment are for the internet, not for the cluster.
        self._client = httpx.Client(base_url=self.url, timeout=10, headers=headers, trust_env=False)
        self._settings = settings

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
        service = self._settings.service
        request = {
            "model": self._settings.engine.served_model_name,
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


def api_key(path: str) -> str:
    """The API key in a file. Raises ConfigError."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError("API_KEY_MISSING", f"service.api_key_file: {error}") from None
