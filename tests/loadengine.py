"""A stand-in for the Docker Engine: it takes ``docker load`` over a socket, and knows only sizes and sums of it."""

from __future__ import annotations

import hashlib
import http.server
import json
import socketserver
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

NAME = "vendor/image:v5"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class LoadEngine:
    """``whole``: the sha256 of each load that came to its end. ``begun``, ``bytes``: of loads, whole or not.

    ``refuse``: what it says once it has so many bytes. ``pause``: seconds after each 256 KiB. ``early``: it has the
    image before the end came, as an archive with padding does. ``open``: while it is not set, nothing is taken.
    """

    def __init__(
        self, path: Path, refuse: tuple[int, str] | None = None, pause: float = 0, early: bool = False
    ) -> None:
        self.path, self.refuse, self.pause, self.early = path, refuse, pause, early
        self.whole: list[str] = []
        self.begun = self.bytes = 0
        self.images: dict[str, str] = {}
        self.ended, self.open = threading.Event(), threading.Event()
        self.open.set()
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name = self.path.removeprefix("/images/").removesuffix("/json")
                found = engine.images.get(name)
                self.answer(200 if found else 404, {"Id": found} if found else {"message": "No such image"})

            def do_DELETE(self) -> None:
                engine.images.pop(self.path.removeprefix("/images/"), None)
                self.answer(200, {})

            def do_POST(self) -> None:
                if "/tag?" in self.path:
                    found, _, query = self.path.removeprefix("/images/").partition("/tag?")
                    words = dict(urllib.parse.parse_qsl(query))
                    engine.images[f"{words['repo']}:{words['tag']}"] = urllib.parse.unquote(found)
                    return self.answer(201, {})
                assert self.path == "/images/load?quiet=1"
                try:
                    engine.load(self)
                finally:
                    engine.ended.set()

            def answer(self, status: int, row: Any) -> None:
                body = json.dumps(row).encode() + b"\n"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

            def address_string(self) -> str:
                return "a socket"

        self._server = Server(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def load(self, handler: Any) -> None:
        """Take one load; nothing of it counts that did not come to its end."""
        self.begun += 1
        taken, digest = 0, hashlib.sha256()
        while length := int(handler.rfile.readline() or b"-1", 16):
            self.open.wait(120)
            data = handler.rfile.read(length) if length > 0 else b""
            self.bytes += len(data)
            if length < 0 or len(data) < length:
                handler.close_connection = True
                return
            handler.rfile.readline()
            digest.update(data)
            taken += length
            time.sleep(self.pause * length / (1 << 18))
            if self.early:
                self.images[NAME] = "sha256:early"
            if self.refuse and taken >= self.refuse[0]:
                handler.close_connection = True
                return handler.answer(200, {"errorDetail": {"message": self.refuse[1]}, "error": self.refuse[1]})
        handler.rfile.readline()
        self.whole.append(digest.hexdigest())
        self.images[NAME] = f"sha256:{digest.hexdigest()}"
        handler.answer(200, {"stream": f"Loaded image: {NAME}"})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
