"""HTTP and programs, asked within bounds: one time for the whole answer, so many bytes and no more."""

from __future__ import annotations

import http.client
import io
import os
import selectors
import signal
import socket
import subprocess
import time
from typing import Any, Mapping, Sequence

LIMIT = 1 << 20


class Refused(Exception):
    """An answer that is not taken; the text says why."""


class _Stream(io.RawIOBase):
    """What comes over a socket until a moment: an answer of one byte a second has an end too."""

    def __init__(self, opened: socket.socket, until: float, limit: int) -> None:
        super().__init__()
        self.opened, self.until, self.left = opened, until, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise socket.timeout("no whole answer in time")
        self.opened.settimeout(seconds)
        count = self.opened.recv_into(buffer)
        self.left -= count
        if self.left < 0:
            raise Refused("the answer is too long")
        return count


class _Bounded:
    """A connected socket as http.client wants it, whose answer is bounded."""

    def __init__(self, opened: socket.socket, until: float, limit: int) -> None:
        self.opened, self.until, self.limit = opened, until, limit

    def sendall(self, data: bytes) -> None:
        self.opened.settimeout(max(0.001, self.until - time.monotonic()))
        self.opened.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Stream(self.opened, self.until, self.limit))

    def close(self) -> None:
        """Nothing: http.client lets go of a connection before it reads the answer's body."""


def get(family: int, place: Any, path: str, seconds: float, limit: int = LIMIT) -> tuple[int, bytes]:
    """(status, body) of one GET. In: a socket's family and address; seconds for all of it.

    Raises OSError, http.client.HTTPException, Refused, ValueError.
    """
    until = time.monotonic() + seconds
    with socket.socket(family, socket.SOCK_STREAM) as opened:
        opened.settimeout(seconds)
        opened.connect(place)
        connection = http.client.HTTPConnection("localhost")
        bounded: Any = _Bounded(opened, until, limit)
        connection.sock = bounded
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def output_of(
    argv: Sequence[str], seconds: float, environment: Mapping[str, str], limit: int = LIMIT
) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a program. Raises OSError, Refused."""
    until = time.monotonic() + seconds
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        start_new_session=True,
    )  # fmt: skip
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    try:
        said = _read_all([stream.fileno() for stream in streams], until, limit)
        if said is None:
            raise Refused(f"no answer in {seconds:.0f} s")
        code = process.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise Refused(f"no end in {seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in streams:
            stream.close()
    out, errors = (data.decode("utf-8", "replace") for data in said)
    return code, out, errors


def _read_all(handles: Sequence[int], until: float, limit: int) -> list[bytes] | None:
    """What comes from each until its end; None where the time is over before. Raises Refused."""
    said = dict.fromkeys(handles, b"")
    with selectors.DefaultSelector() as waiting:
        for handle in handles:
            os.set_blocking(handle, False)
            waiting.register(handle, selectors.EVENT_READ)
        while waiting.get_map():
            left = until - time.monotonic()
            if left <= 0:
                return None
            for key, _ in waiting.select(left):
                data = os.read(key.fd, 65536)
                if not data:
                    waiting.unregister(key.fd)
                said[key.fd] += data
                if len(said[key.fd]) > limit:
                    raise Refused(f"it prints more than {limit} bytes")
    return [said[handle] for handle in handles]
