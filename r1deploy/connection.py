"""A connection to one host, through fabric: commands, scripts and forwardings, as root."""

from __future__ import annotations

import contextlib
import inspect
import json
import random
import re
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from r1deploy import shipping
from r1deploy.ansible.events import Event
from r1deploy.ansible.failures import failure_of
from r1deploy.dockercli import docker
from r1deploy.errors import ApplyError, R1Error, UnreachableError
from r1deploy.forwarding import Forwarding
from r1deploy.session import ANSWER_SECONDS, Kept, Lines, Session, Take, answer_in, prompt_of
from r1deploy.ssh import ALIVE_COUNT, ALIVE_SECONDS, LOGINS_THROUGH_A_JUMP_HOST, Login
from r1deploy.together import together
from r1deploy.voice import Say

T = TypeVar("T")
SILENCE_SECONDS = ALIVE_SECONDS * ALIVE_COUNT
LOGIN_ATTEMPTS = 4
_THROUGH_JUMP_HOSTS = threading.BoundedSemaphore(LOGINS_THROUGH_A_JUMP_HOST)


class Remote:
    """A connection to one host: the same login, jump hosts and sudo as Ansible's. Unknown host keys are refused."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._open: list[Any] = []
        self._closed = False
        self._heard = 0.0
        self._forwarding: Forwarding | None = None

    @property
    def name(self) -> str:
        """The host's name."""
        return self.login.host

    @property
    def alive(self) -> bool:
        """Whether the connection is there."""
        return bool(self._open) and all(row.is_connected for row in self._open)

    def _connect(self) -> Any:
        """A new connection, and what watches it. Drops while others log in are tried again. Raises UnreachableError."""
        import paramiko

        for attempt in range(1, LOGIN_ATTEMPTS + 1):
            connection = self.login.fabric()
            through = _THROUGH_JUMP_HOSTS if connection.gateway else contextlib.nullcontext()
            try:
                with through:
                    connection.open()
                break
            except (paramiko.AuthenticationException, paramiko.BadHostKeyException, socket.gaierror) as error:
                raise self.failed(error) from error
            except (OSError, EOFError, paramiko.SSHException, paramiko.ProxyCommandFailure) as error:
                connection.close()
                if attempt == LOGIN_ATTEMPTS or not dropped(error):
                    raise self.failed(error) from error
            # Not all of them again at the same moment.
            time.sleep(attempt * random.uniform(0.5, 1.5))
        self._open.append(connection)
        if self._closed:
            self.close()
            raise self.silent("the connection was closed here")
        self._heard = time.monotonic()
        threading.Thread(target=self._watch, args=(connection.transport,), daemon=True).start()
        return connection

    def _watch(self, transport: Any) -> None:
        """Ask the other end every few seconds whether it is there; it must answer, if only with no."""
        with contextlib.suppress(Exception):  # the connection ended: whoever reads from it sees that
            while transport.is_active():
                transport.global_request("keepalive@openssh.com", wait=True)
                self._heard = time.monotonic()
                time.sleep(ALIVE_SECONDS)

    def check_link(self) -> None:
        """Raises UnreachableError where the other end is not heard any more."""
        if time.monotonic() - self._heard > SILENCE_SECONDS:
            raise self.silent(f"the link is down: nothing was heard for {SILENCE_SECONDS} s")

    def silent(self, what: str) -> UnreachableError:
        """No answer, as an error."""
        fix = f"is the host up? {self.login.words()['ping']}"
        return UnreachableError("SSH_TIMEOUT", f"{self.name}: {what}", host=self.name, fix=fix)

    def failed(self, error: BaseException) -> UnreachableError:
        """A failure of SSH, with its cause where there is one."""
        said = str(error) or type(error).__name__
        cause = failure_of(Event("unreachable", "", "", self.name, {"msg": said}), self.login)
        message = f"{self.name}: {cause.message}"
        evidence = () if cause.code == "SSH_FAILED" else (said,)
        return UnreachableError(cause.code, message, host=self.name, evidence=evidence, fix=cause.fix)

    def no_answer(self, what: str, code: int, said: str) -> R1Error:
        """A script that ended without its answer, with the cause where what it said has one."""
        cause = failure_of(Event("failed", "", "", self.name, {"msg": said or "it said nothing"}), self.login)
        if cause.code != "STEP_FAILED":
            message = f"{self.name}: {what}: {cause.message}"
            return ApplyError(cause.code, message, host=self.name, evidence=cause.evidence, fix=cause.fix)
        message = f"{self.name}: {what} ended with code {code} and no answer"
        return ApplyError("STEP_FAILED", message, host=self.name, evidence=said.strip().splitlines()[-8:])

    def _channel(self) -> Any:
        """A new channel; where sshd allows one session a connection (MaxSessions 1), on a new connection."""
        import paramiko

        for connection in reversed(self._open):
            if connection.is_connected:
                with contextlib.suppress(paramiko.ChannelException):
                    return connection.transport.open_session(timeout=SILENCE_SECONDS)
        return self._connect().transport.open_session(timeout=SILENCE_SECONDS)

    def start(self, command: str, err: Take | None = None) -> Session:
        """Start a command of a POSIX shell as root, and wait until it begins. Raises UnreachableError, PreflightError.

        In: ``err`` takes what it says on standard error; None: it is kept in ``said``.
        """
        import paramiko

        token = f"r1-{secrets.token_hex(8)}"
        framed = f"echo {token}; echo {token} >&2; {command}"
        argv = [*self.login.sudo(prompt_of(token)), "sh", "-c", framed]
        try:
            channel = self._channel()
            channel.exec_command(shlex.join(argv))
        except (OSError, EOFError, paramiko.SSHException, paramiko.ProxyCommandFailure) as error:
            raise self.failed(error) from error
        session = Session(self, channel, token, err)
        try:
            return session.begin()
        except BaseException:
            session.close()
            raise

    def run(
        self, command: str, line: Say | None = None, error_line: Say | None = None, timeout: int | None = None
    ) -> tuple[int, str]:
        """Run a command of a POSIX shell as root; returns its exit code and the end of what it printed.

        In: ``line`` takes each line as it comes, ``error_line`` those of standard error; ``timeout`` in seconds.
        Raises UnreachableError, PreflightError.
        """
        kept, out = Kept(), Lines(line) if line else None
        err = Lines(error_line) if error_line else None
        session = self.start(command, err.write if err else None)
        try:
            session.finish_input()
            session.deadline = time.monotonic() + timeout if timeout else None
            for data in session.read():
                (out or kept).write(data)
                session.refuse_late()
            code = session.code()
        finally:
            session.close()
        for stream in (out, err):
            if stream:
                stream.end()
        return code, kept.text or session.said.text

    def local_address(self) -> str:
        """The address of this machine that the host sees."""
        connection = self._open[-1] if self._open else self._connect()
        try:
            return str(connection.transport.sock.getsockname()[0])
        except (AttributeError, OSError):
            return "a jump host"

    def script(
        self,
        module: shipping.Script,
        order: Mapping[str, Any],
        take: Take,
        err: Take | None = None,
        feed: Callable[[Session], None] | None = None,
    ) -> tuple[int, str]:
        """Run a module of ``r1deploy.onhost`` as root on the host.

        In: its order; ``take`` and ``err`` take what it prints; ``feed`` writes what it may read after the order.
        Returns its exit code and what it said on standard error. Raises UnreachableError, PreflightError.
        """
        session = self.module(module, order, err)
        try:
            if feed:
                feed(session)
            else:
                session.finish_input()
            for data in session.read():
                take(data)
            return session.code(), session.said.text
        finally:
            session.close()

    def module(self, module: shipping.Script, order: Mapping[str, Any], err: Take | None = None) -> Session:
        """Start a module of ``r1deploy.onhost`` as root. Raises UnreachableError, PreflightError."""
        session = self.start(f"exec {shipping.command(self.login.python(), module)}", err)
        session.deadline = time.monotonic() + ANSWER_SECONDS
        try:
            session.send(shipping.parcel(order))
        except BaseException:
            session.close()
            raise
        session.deadline = None
        return session

    def python_in(
        self, container: str, python: str, module: ModuleType, order: Mapping[str, Any], seconds: int = ANSWER_SECONDS
    ) -> Any:
        """What a module that imports no other one of ours answers in a container, or None where it does not."""
        argv = docker("exec", container, python, "-c", inspect.getsource(module), json.dumps(order))
        status, text = self.run(shlex.join(argv), timeout=seconds)
        return answer_in(text) if status == 0 else None

    def forward(self, port: int, local: int = 0) -> str:
        """Bring a port of the host here until ``close``; returns ``http://127.0.0.1:<local port>``.

        In: ``local``, the port here (0: a free one). Raises UnreachableError TUNNEL_FAILED with what ssh said.
        """
        self._forwarding = Forwarding(self.login, port, local)
        return self._forwarding.url

    def wait(self) -> None:
        """Wait until the forwarding ends by itself. Raises UnreachableError TUNNEL_FAILED."""
        if self._forwarding:
            self._forwarding.wait()

    def close(self) -> None:
        """Close the connections and what ``forward`` opened."""
        self._closed = True
        for connection in self._open:
            connection.close()
        if self._forwarding:
            self._forwarding.close()
            self._forwarding = None

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def on_each(remotes: Sequence[Remote], work: Callable[[Remote], T]) -> list[T]:
    """Work on all connections at once, and close them; Ctrl-C and an error of ours end all of them at once.

    Raises the first R1Error after all have ended; its evidence names the others.
    """
    try:
        ended = together({place: partial(work, remote) for place, remote in enumerate(remotes)})
    finally:
        for remote in remotes:
            remote.close()
    errors = [result for result in ended.values() if isinstance(result, R1Error)]
    if errors:
        first, *others = errors
        first.evidence = (*first.evidence, *(str(error) for error in others))
        raise first
    return [result for result in ended.values() if not isinstance(result, R1Error)]


def dropped(error: BaseException) -> bool:
    """Whether sshd ended a login before it began, as it does when too many are under way."""
    said = f"{type(error).__name__} {error}"
    return bool(re.search("banner|EOFError|Connection reset|ConnectionResetError|Broken ?[Pp]ipe|Negotiation", said))
