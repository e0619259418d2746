"""A connection to one host that OpenSSH carries: a process a command, with all of its own ways to log in.

For one command on many hosts at once: its key exchange is OpenSSH's (which is safe against later decryption), and runs
in processes of its own on all cores.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
from collections.abc import Sequence
from typing import IO

from r1deploy.errors import R1Error
from r1deploy.hostlink import HostLink
from r1deploy.session import Session
from r1deploy.ssh import Login

# The exit code with which OpenSSH tells of its own failures.
SSH_FAILS = 255
END_SECONDS = 5


class Channel:
    """A process of OpenSSH with the methods of a channel that a session uses."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Start it. Raises OSError."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out, self._err = self._process.stdin, self._process.stdout, self._process.stderr
        os.set_blocking(self._in.fileno(), False)
        self._seconds = 1.0
        self.status_event = self

    def settimeout(self, seconds: float) -> None:
        """How long reading and writing wait before they raise TimeoutError."""
        self._seconds = seconds

    def recv(self, size: int) -> bytes:
        """What the command prints; nothing at the end."""
        return self._read(self._out, size)

    def recv_stderr(self, size: int) -> bytes:
        """What it, or OpenSSH, says on standard error."""
        return self._read(self._err, size)

    def _read(self, stream: IO[bytes], size: int) -> bytes:
        if stream.closed:
            return b""
        if not ready(stream, select.POLLIN, self._seconds):
            raise TimeoutError
        data = os.read(stream.fileno(), size)
        if not data:
            stream.close()
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Write to its standard input; how many bytes were taken. Raises OSError where it ended."""
        if not ready(self._in, select.POLLOUT, self._seconds):
            raise TimeoutError
        return os.write(self._in.fileno(), data)

    def shutdown_write(self) -> None:
        """There is no more input."""
        self._in.close()

    def exit_status_ready(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def wait(self, seconds: float) -> bool:
        """Whether it ends within the time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.exit_status_ready()

    def recv_exit_status(self) -> int:
        """The command's exit code, or SSH_FAILS."""
        return self._process.wait()

    def close(self) -> None:
        """End it; from any thread. What still reads from it comes to the end, what writes to it gets an error."""
        self._process.kill()
        self._process.wait()


def ready(stream: IO[bytes], event: int, seconds: float) -> bool:
    """Whether a pipe can be read or written within the time, or is at its end."""
    waiting = select.poll()
    waiting.register(stream, event)
    return bool(waiting.poll(seconds * 1000))


class SshProcess(HostLink):
    """The way to a host through OpenSSH, which itself sees when the other end is not heard any more."""

    def __init__(self, login: Login) -> None:
        super().__init__(login)
        self._channels: list[Channel] = []
        self._closed = False

    @property
    def alive(self) -> bool:
        """OpenSSH tells by its exit code."""
        return True

    def check_link(self) -> None:
        """OpenSSH ends by itself."""

    def _opened(self, argv: Sequence[str]) -> Channel:
        # A connection that the user's ssh_config keeps open may be a stale one.
        own = [] if self.login.sockets else ["-o", "ControlPath=none"]
        self._channels.append(Channel([*self.login.openssh(*own), shlex.join(argv)]))
        if self._closed:
            self.close()
            raise self.silent("the connection was closed here")
        return self._channels[-1]

    def never_begun(self, session: Session, out: str) -> R1Error:
        """Why a command did not begin: OpenSSH's own words, or those of the login's shell. In: what it printed."""
        last = self._channels[-1]
        if not last.wait(END_SECONDS) or last.recv_exit_status() != SSH_FAILS:
            return super().never_begun(session, out)
        return self.caused(self.cause(behind_the_jump_host(self.login, session.said.text.strip())))

    def close(self) -> None:
        """End what still runs."""
        self._closed = True
        for channel in self._channels:
            channel.close()


def behind_the_jump_host(login: Login, said: str) -> str:
    """What OpenSSH says of the host: what the connection to the jump host says stands before it."""
    if login.jump and "UNKNOWN port" in said and "open failed" not in said:
        return said[max(said.find("kex_exchange_identification"), 0) :]
    return said
