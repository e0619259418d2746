"""The engine's socket, as the probe and our Ansible module ask it: a made-up engine on a socket of the file system."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from r1deploy.onhost import enginesocket

ANSWERS = {"/info": (200, b'{"ID": "x"}'), "/none": (404, b'{"message": "no such thing"}'), "/bad": (200, b"<html>")}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS.get(self.path, (204, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket has none"

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    place = str(tmp_path / "docker.sock")
    server = ThreadingUnixStreamServer(place, Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setattr(enginesocket, "SOCKET", place)
    yield place
    server.shutdown()
    server.server_close()


def test_an_answer_is_a_status_and_json(path: str) -> None:
    assert enginesocket.get("/info") == (200, {"ID": "x"})
    assert enginesocket.get("/none") == (404, {"message": "no such thing"})
    assert enginesocket.get("/empty") == (204, None)
    with pytest.raises(ValueError):
        enginesocket.get("/bad")


def test_nobody_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enginesocket, "SOCKET", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        enginesocket.get("/info")


def test_a_connection_for_more_than_one_question(path: str) -> None:
    engine = enginesocket.Engine(path, 5)
    for _ in range(2):
        engine.request("GET", "/info")
        assert engine.getresponse().read() == b'{"ID": "x"}'
    engine.close()
