"""The Docker Engine's socket: the one way in which what runs on hosts asks it."""

from __future__ import annotations

import http.client
import socket
from typing import Any

from . import asking
from .plainfiles import parse

SOCKET = "/var/run/docker.sock"


class Engine(http.client.HTTPConnection):
    """HTTP over the engine's socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def get(path: str, timeout: float = 10) -> tuple[int, Any]:
    """(status, JSON) of one GET to the engine. Raises OSError, ValueError, http.client.HTTPException, Refused."""
    status, body = asking.get(socket.AF_UNIX, SOCKET, path, timeout, 16 << 20)
    return status, parse(body.decode("utf-8", "replace")) if body else None
