"""What runs on hosts asks the engine and the service within bounds (field.md 1.3, 1.6)."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from r1deploy.onhost import asking

HEAD = b"HTTP/1.1 200 OK\r\n"


def once(listening: socket.socket, answer: Callable[[socket.socket], None]) -> None:
    with listening:
        opened, _ = listening.accept()
        with opened:
            opened.recv(4096)
            try:
                answer(opened)
            except OSError:
                return  # who asked has had enough


@contextmanager
def server(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answers one request on a socket of the file system."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen()
    thread = threading.Thread(target=once, args=(listening, answer), daemon=True)
    thread.start()
    yield str(path)
    thread.join(10)


@pytest.mark.parametrize(
    "said",
    [
        HEAD + b"Content-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}",
        HEAD + b"Connection: close\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
    ],
)
def test_every_form_of_an_answer_is_read(tmp_path: Path, said: bytes) -> None:
    with server(tmp_path / "s", lambda opened: opened.sendall(said)) as path:
        assert asking.get(socket.AF_UNIX, path, "/version", 5) == (200, b"{}")


def test_a_byte_a_moment_has_an_end(tmp_path: Path) -> None:
    def drip(opened: socket.socket) -> None:
        for byte in HEAD + b"Content-Length: 9999\r\n\r\n" + b"x" * 9999:
            opened.sendall(bytes([byte]))
            time.sleep(0.02)

    with server(tmp_path / "s", drip) as path, pytest.raises(OSError, match=r"timed out|no whole answer in time"):
        asking.get(socket.AF_UNIX, path, "/version", 0.5)


def test_silence_has_an_end(tmp_path: Path) -> None:
    with (
        server(tmp_path / "s", lambda _: time.sleep(2)) as path,
        pytest.raises(OSError, match=r"timed out|no whole answer in time"),
    ):
        asking.get(socket.AF_UNIX, path, "/version", 0.3)


def test_an_answer_without_end_is_refused(tmp_path: Path) -> None:
    def flood(opened: socket.socket) -> None:
        opened.sendall(HEAD + b"Connection: close\r\n\r\n")
        while True:
            opened.sendall(b"x" * 65536)

    with server(tmp_path / "s", flood) as path, pytest.raises(asking.Refused, match="too long"):
        asking.get(socket.AF_UNIX, path, "/version", 10, limit=100_000)


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"\0" * 64, HEAD + b"Content-Length: 99\r\n\r\n{}"])
def test_what_is_no_answer_is_an_error(tmp_path: Path, said: bytes) -> None:
    with (
        server(tmp_path / "s", lambda opened: opened.sendall(said)) as path,
        pytest.raises((http.client.HTTPException, OSError)),
    ):
        asking.get(socket.AF_UNIX, path, "/version", 5)


def run(script: str, seconds: float = 20, limit: int = asking.LIMIT) -> tuple[int, str, str]:
    return asking.output_of(["sh", "-c", script], seconds, {"PATH": "/usr/bin:/bin", "WORD": "said"}, limit)


def test_what_a_program_says() -> None:
    assert run("echo $WORD; printf 'b\\377d' >&2; exit 3") == (3, "said\n", "b�d")


def test_a_program_that_hangs_is_ended() -> None:
    for script in ("sleep 60", "exec >&- 2>&-; sleep 60", "sleep 60 & wait"):
        began = time.monotonic()
        with pytest.raises(asking.Refused, match=r"no (answer|end) in 1 s"):
            run(script, 1)
        assert time.monotonic() - began < 5


def test_a_program_that_prints_for_ever() -> None:
    with pytest.raises(asking.Refused, match="it prints more than 100000 bytes"):
        run("yes", limit=100_000)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        asking.output_of(["/no/such"], 1, {})
