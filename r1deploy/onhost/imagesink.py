"""A ``docker save`` file, as it comes, into the Docker Engine: no file on the host.

The engine acts on the end of the file. So it gets the end only once all of it is known to be right.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import time
from typing import Any, Mapping, NoReturn
from urllib.parse import quote, urlencode

from .enginesocket import Engine
from .plainfiles import parse
from .saying import Refusal

# Seconds in which the engine takes some bytes; in which it unpacks all layers once it has them.
TAKE_SECONDS, ANSWER_SECONDS = 600, 3600
ASK_SECONDS = 10
LIMIT = 1 << 20
HEAD = (
    b"POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)


class ImageSink:
    """One load. In: the engine's socket and the image's name. Raises OSError where no engine listens."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._path, self._name = order["socket"], order["name"]
        self._image = "/images/" + quote(self._name, safe="/:@")
        self._before = self._here()
        self._answered = False
        self._stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stream.settimeout(TAKE_SECONDS)
        self._stream.connect(self._path)
        self._stream.sendall(HEAD)

    def write(self, data: bytes) -> None:
        """Hand over some bytes. Raises Refusal where the engine has refused them."""
        self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> dict[str, Any]:
        """Hand over the end and wait for the engine; there is nothing more to say of it. Raises Refusal."""
        self._send(b"0\r\n\r\n")
        if not self._answered:
            self._answer()
        return {}

    def abandon(self) -> None:
        """End the load early. An image of it is removed; the one that had the name before has it again.

        The engine says that the archive is cut; then it has done with it.
        """
        until = time.monotonic() + ASK_SECONDS
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_WR)
            while select.select([self._stream], [], [], max(0.0, until - time.monotonic()))[0]:
                if not self._stream.recv(LIMIT, socket.MSG_DONTWAIT):
                    break
        self._stream.close()
        now = self._here()
        if now is None or now == self._before:
            return
        self._ask("DELETE", self._image)
        if self._before:
            name, _, tag = self._name.rpartition(":")
            self._ask("POST", f"/images/{self._before}/tag?" + urlencode({"repo": name, "tag": tag}))

    def _send(self, data: bytes) -> None:
        """Send, and listen: the engine may answer before the end, with an error."""
        rest = memoryview(data)
        while rest and not self._answered:
            readable, writable, _ = select.select([self._stream], [self._stream], [], TAKE_SECONDS)
            if readable:
                self._answer()
            elif writable:
                try:
                    rest = rest[self._stream.send(rest) :]
                except (BrokenPipeError, ConnectionResetError):
                    self._answer()
            else:
                raise Refusal("STEP_FAILED", f"docker load: the engine took no byte in {TAKE_SECONDS} s")

    def _answer(self) -> None:
        """Read the engine's answer to its end. Raises Refusal."""
        self._stream.settimeout(ANSWER_SECONDS)
        answer = http.client.HTTPResponse(self._stream)
        try:
            answer.begin()
            text = answer.read(LIMIT).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            refuse([f"the engine gave no answer: {error or type(error).__name__}"])
        errors = errors_in(text)
        if answer.status != 200 or errors:
            refuse(errors or text.splitlines()[-5:] or [f"the engine answers {answer.status}"])
        self._answered = True

    def _here(self) -> str | None:
        """The id of the image that has the name now."""
        row = self._ask("GET", f"{self._image}/json")
        return row.get("Id") if isinstance(row, dict) else None

    def _ask(self, method: str, path: str) -> Any:
        engine = Engine(self._path, ASK_SECONDS)
        try:
            engine.request(method, path)
            return parse(engine.getresponse().read(LIMIT).decode("utf-8", "replace"))
        except (ValueError, http.client.HTTPException):
            return None
        finally:
            engine.close()


def refuse(lines: list[str]) -> NoReturn:
    """Raise Refusal with what the engine said."""
    raise Refusal("STEP_FAILED", f"docker load: {lines[0]}"[:1000], [line[:1000] for line in lines[-5:]])


def errors_in(text: str) -> list[str]:
    """The errors in an answer of the engine: JSON documents, a line each."""
    found = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and (row.get("error") or row.get("message")):
            found.append(str(row.get("error") or row.get("message")))
    return found
