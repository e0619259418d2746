"""A connection to one host, through fabric: commands, scripts and forwardings, as root."""

from __future__ import annotations

import contextlib
import random
import re
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from r1deploy.errors import R1Error
from r1deploy.forwarding import Forwarding
from r1deploy.hostlink import HostLink
from r1deploy.ssh import ALIVE_COUNT, ALIVE_SECONDS, LOGINS_THROUGH_A_JUMP_HOST, Login
from r1deploy.together import together

T = TypeVar("T")
Link = TypeVar("Link", bound=HostLink)
SILENCE_SECONDS = ALIVE_SECONDS * ALIVE_COUNT
LOGIN_ATTEMPTS = 4
_THROUGH_JUMP_HOSTS = threading.BoundedSemaphore(LOGINS_THROUGH_A_JUMP_HOST)


class Remote(HostLink):
    """A connection to one host: the same login, jump hosts and sudo as Ansible's. Unknown host keys are refused."""

    def __init__(self, login: Login) -> None:
        super().__init__(login)
        self._open: list[Any] = []
        self._closed = False
        self._heard = 0.0
        self._forwarding: Forwarding | None = None

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

    def _opened(self, argv: Sequence[str]) -> Any:
        import paramiko

        try:
            channel = self._channel()
            channel.exec_command(shlex.join(argv))
        except (OSError, EOFError, paramiko.SSHException, paramiko.ProxyCommandFailure) as error:
            raise self.failed(error) from error
        return channel

    def _channel(self) -> Any:
        """A new channel; where sshd allows one session a connection (MaxSessions 1), on a new connection."""
        import paramiko

        for connection in reversed(self._open):
            if connection.is_connected:
                with contextlib.suppress(paramiko.ChannelException):
                    return connection.transport.open_session(timeout=SILENCE_SECONDS)
        return self._connect().transport.open_session(timeout=SILENCE_SECONDS)

    def local_address(self) -> str:
        """The address of this machine that the host sees."""
        connection = self._open[-1] if self._open else self._connect()
        try:
            return str(connection.transport.sock.getsockname()[0])
        except (AttributeError, OSError):
            return "a jump host"

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


def on_each(remotes: Sequence[Link], work: Callable[[Link], T]) -> list[T]:
    """Work on all connections at once, and close them; Ctrl-C and an error of ours end all of them at once.

    Raises the first R1Error after all have ended; its evidence names the others.
    """
    try:
        ended = together({place: partial(work, remote) for place, remote in enumerate(remotes)})
    finally:
        for remote in remotes:
            remote.close()
    raise_first(ended.values())
    return [result for result in ended.values() if not isinstance(result, R1Error)]


def raise_first(ended: Iterable[object]) -> None:
    """Raise the first R1Error among what work ended with, if there is one; its evidence names the others."""
    errors = [result for result in ended if isinstance(result, R1Error)]
    if errors:
        first, *others = errors
        first.evidence = (*first.evidence, *(str(error) for error in others))
        raise first


def dropped(error: BaseException) -> bool:
    """Whether sshd ended a login before it began, as it does when too many are under way."""
    said = f"{type(error).__name__} {error}"
    return bool(re.search("banner|EOFError|Connection reset|ConnectionResetError|Broken ?[Pp]ipe|Negotiation", said))
