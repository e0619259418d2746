"""What answers on the service's port; anybody on the host may answer there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import localservice
from tests.onhost.making import put


@contextmanager
def service(answers: dict[str, tuple[int, str]]) -> Iterator[int]:
    """Answers by path; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_a_service_and_its_models() -> None:
    rows = {"data": [{"id": "DeepSeek-R1"}, {"id": 7}, "x", {"id": "y" * 300}]}
    with service({"/health": (200, ""), "/v1/models": (200, json.dumps(rows))}) as port:
        found = localservice.look_service(port)
    assert found == {"port": port, "health": 200, "models": ["DeepSeek-R1", "y" * 200]}
    assert localservice.look_service(port) == {"port": port, "health": None, "models": []}, "it has ended"


@pytest.mark.parametrize("text", ["", "[]", "7", '{"data": {}}', '{"data": null}', "<html>"])
def test_what_is_no_list_of_models(text: str) -> None:
    with service({"/health": (503, "starting"), "/v1/models": (200, text)}) as port:
        assert localservice.look_service(port) == {"port": port, "health": 503, "models": []}


def test_models_are_asked_for_in_vain() -> None:
    with service({"/health": (200, ""), "/v1/models": (404, '{"data": [{"id": "x"}]}')}) as port:
        assert localservice.look_service(port)["models"] == []


@pytest.mark.parametrize(
    ("active", "record", "wanted"),
    [
        ({"release": "aa", "config": "bb"}, {"port": 9999}, 9999),
        ({"release": "aa", "config": "bb"}, {"port": 99999}, 9010),
        ({"release": "aa", "config": "bb"}, {"port": "9999"}, 9010),
        ({"release": "aa", "config": "bb"}, [], 9010),
        ({"release": "../aa", "config": "bb"}, {"port": 9999}, 9010),
        ({"release": "aa"}, {"port": 9999}, 9010),
        ([], {"port": 9999}, 9010),
    ],
)
def test_the_port_of_what_is_active(tmp_path: Path, active: object, record: object, wanted: int) -> None:
    request = {"state_dir": str(tmp_path), "ports": [9010, 6379]}
    assert localservice.service_port(request) == 9010
    put(tmp_path / "active.json", json.dumps(active))
    put(tmp_path / "releases" / "aa" / "config" / "bb" / "release.json", json.dumps(record))
    assert localservice.service_port(request) == wanted
