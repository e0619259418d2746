"""A command at work on a host: its frame, its streams, its end.

Shells of sites print what they like, sudo asks for a password or does not, links go down. So
each command begins with a mark of its own: what comes before it is the login's, what sudo asks
is answered at its own prompt, and a link on which nothing is heard any more ends in an error.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from r1deploy.errors import PreflightError, R1Error, UnreachableError
from r1deploy.ssh import Login
from r1deploy.voice import Say

Take = Callable[[bytes], None]

# A login shell, and sudo with a directory service behind it, are slow; one that waits for input hangs.
BEGIN_SECONDS = 60
# A short script that is silent for so long hangs, or its host is gone.
ANSWER_SECONDS = 60

BLOCK = 65536

# A longer line is handed over in parts; of a command's output only its end is kept.
LONGEST_LINE = 64 << 10

KEPT = 4 << 20

# In front of each answer of a script: what else a host prints is not one.
MARK = "r1:"


class Lines:
    """Bytes as they come → whole lines of text; time and memory do not grow with what went before."""

    def __init__(self, take: Say) -> None:
        self._take = take
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def write(self, data: bytes) -> None:
        """Take what came."""
        *whole, self._rest = (self._rest + self._text.decode(data)).split("\n")
        for line in whole:
            self._take(line)
        if len(self._rest) > LONGEST_LINE:
            self.end()

    def end(self) -> None:
        """Hand over a last line without an end."""
        rest, self._rest = self._rest, ""
        if rest:
            self._take(rest)


class Kept:
    """The end of what came."""

    def __init__(self, size: int = KEPT) -> None:
        self._size, self._data = size, bytearray()

    def write(self, data: bytes) -> None:
        """Take what came."""
        self._data += data
        if len(self._data) > 2 * self._size:
            del self._data[: -self._size]

    @property
    def text(self) -> str:
        """What is kept, as text."""
        return bytes(self._data[-self._size :]).decode("utf-8", "replace")


class Link(Protocol):
    """What a session needs of its connection."""

    login: Login

    @property
    def alive(self) -> bool:
        """Whether the connection is there."""

    def check_link(self) -> None:
        """Raises UnreachableError where the other end is not heard any more."""

    def silent(self, what: str) -> UnreachableError:
        """No answer, as an error."""

    def failed(self, error: BaseException) -> UnreachableError:
        """A failure of SSH, with its cause where there is one."""

    def never_begun(self, session: Session, out: str) -> R1Error:
        """Why a command did not begin. In: what was printed instead."""


class Session:
    """A command at work on a host."""

    def __init__(self, remote: Link, channel: Any, token: str, err: Take | None) -> None:
        self._remote, self._channel, self._token, self._err = remote, channel, token, err
        self.said = Kept()  # on standard error, where nobody takes it
        self.deadline: float | None = None  # of the next output, of input that is taken, and of the end
        self._begun = False
        self._asked = 0
        self._first = b""
        self._trouble: BaseException | None = None
        channel.settimeout(1.0)
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()

    @property
    def prompt(self) -> bytes:
        """What sudo asks with."""
        return prompt_of(self._token).encode()

    @property
    def late(self) -> bool:
        """Whether the deadline is over."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def refuse_late(self) -> None:
        """Raises UnreachableError after the deadline: also who talks all the time has no more of it."""
        if self.late:
            raise self._remote.silent("no answer in time")

    def _blocks(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        """What comes until the other end closes. Raises UnreachableError where the link is silent."""
        while True:
            try:
                data = read(BLOCK)
            except TimeoutError:
                self._remote.check_link()
                self.refuse_late()
                continue
            if not data:
                return
            yield data

    def _read_errors(self) -> None:
        """Standard error: sudo's prompt, then the command's own."""
        mark, before = self._token.encode() + b"\n", b""
        try:
            for data in self._blocks(self._channel.recv_stderr):
                if self._begun:
                    self._take_error(data)
                    continue
                before += data
                if mark in before:
                    self._begun = True
                    self._take_error(before.partition(mark)[2])
                elif before.endswith(
                    self.prompt
                ):  # the end: a shell that shows its commands shows this one's words too
                    before = b""
                    self._answer_sudo()
                before = before[-BLOCK:]
        except BaseException as error:  # raised by whoever waits for the command
            self._trouble = error
            self._channel.close()
        if not self._begun:
            self.said.write(before)

    def _take_error(self, data: bytes) -> None:
        if data:
            (self._err or self.said.write)(data)

    def _answer_sudo(self) -> None:
        """Sudo asks: once it gets the password, then it is the wrong one."""
        self._asked += 1
        password = self._remote.login.password
        if password is None or self._asked > 1:
            self._trouble = refused_password(self._remote.login)
            self._channel.close()
            return
        self.send(f"{password}\n".encode())

    def begin(self, seconds: float = BEGIN_SECONDS) -> Session:
        """Wait until the command itself begins. Raises UnreachableError; PreflightError where sudo forbids it."""
        mark, before = self._token.encode() + b"\n", b""
        self.deadline = time.monotonic() + seconds
        for data in self._blocks(self._channel.recv):
            before += data
            if mark in before:
                self.deadline = None
                self._first = before.partition(mark)[2]
                return self
            before = before[-BLOCK:]
            self.refuse_late()
        self._errors.join(5)
        if self._trouble:
            raise self._trouble
        raise self._remote.never_begun(self, before.decode("utf-8", "replace"))

    def read(self) -> Iterator[bytes]:
        """What the command prints, until it ends. Raises UnreachableError after ``deadline``, and on a silent link."""
        if self._first:
            yield self._first
        yield from self._blocks(self._channel.recv)
        left = ANSWER_SECONDS if self.deadline is None else self.deadline - time.monotonic()
        self._errors.join(max(0, min(left, ANSWER_SECONDS)))
        if self._trouble:
            raise self._trouble

    def send(self, data: bytes) -> None:
        """Write to the command's standard input. Raises UnreachableError, also after ``deadline``."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._channel.send(rest) :]
            except TimeoutError:
                self._remote.check_link()
                self.refuse_late()
            except OSError as error:
                raise self._remote.failed(error) from error

    def finish_input(self) -> None:
        """There is no more input."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return bool(self._channel.exit_status_ready())

    def code(self) -> int:
        """Wait for the end; the exit code. Raises UnreachableError after ``deadline``, and where the link ended."""
        while not self._channel.status_event.wait(1.0):
            self._remote.check_link()
            self.refuse_late()
        code = int(self._channel.recv_exit_status())
        if code == -1 and not self._remote.alive:
            raise self._remote.silent("the connection ended")
        return code

    def close(self) -> None:
        """End the command's channel."""
        self._channel.close()


def prompt_of(token: str) -> str:
    """sudo's prompt for one command: nothing else prints it."""
    return f"[{token}] password: "


def refused_password(login: Login) -> PreflightError:
    """Sudo asked again."""
    fix = "correct ansible_become_password in the inventory; is the login allowed to use sudo at all?"
    message = f"{login.host}: sudo does not take the password"
    return PreflightError("SUDO_PASSWORD", message, host=login.host, fix=fix)


def answer_in(text: str) -> Any:
    """The JSON behind the last mark in a text; None where there is none."""
    _, mark, rest = text.rpartition(MARK)
    if not mark:
        return None
    try:
        return json.JSONDecoder().raw_decode(rest)[0]
    except ValueError:
        return None
