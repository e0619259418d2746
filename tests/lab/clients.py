"""Who asks the service again and again, as its users do."""

from __future__ import annotations

import threading
from typing import Self

import httpx

from tests.lab.conftest import Cluster


class Client:
    """Asks for a token every few moments, in a thread, while it is open. In: seconds between, and for an answer."""

    def __init__(self, cluster: Cluster, every: float, timeout: float) -> None:
        self.url = f"http://{cluster.lab.hosts()[0].address}:9010"
        self._every, self._timeout = every, timeout
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def begins(self) -> None:
        """It asks."""

    def heard(self, status: int, token: bool) -> None:
        """An answer came. In: its status, and whether it has a text."""

    def lost(self, error: httpx.HTTPError) -> None:
        """None came."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        request = {"model": "deepseek_r1", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        with httpx.Client(base_url=self.url, timeout=self._timeout, trust_env=False) as client:
            while not self._stop.wait(self._every):
                self.begins()
                try:
                    answer = client.post("/v1/chat/completions", json=request)
                except httpx.HTTPError as error:
                    self.lost(error)
                    continue
                good = answer.status_code == 200 and bool(answer.json()["choices"][0]["message"]["content"])
                self.heard(answer.status_code, good)
