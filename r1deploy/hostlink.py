"""What a connection to a host can do, whatever carries it: commands, scripts and modules of ours, as root."""

from __future__ import annotations

import inspect
import json
import secrets
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from r1deploy import shipping
from r1deploy.ansible.events import Event
from r1deploy.ansible.failures import Failure, failure_of
from r1deploy.dockercli import docker
from r1deploy.errors import ApplyError, PreflightError, R1Error, UnreachableError
from r1deploy.session import ANSWER_SECONDS, Kept, Lines, Session, Take, answer_in, prompt_of
from r1deploy.ssh import Login
from r1deploy.voice import Say


class HostLink(ABC):
    """A way to one host: the same login, jump hosts and sudo as Ansible's."""

    def __init__(self, login: Login) -> None:
        self.login = login

    @property
    def name(self) -> str:
        """The host's name."""
        return self.login.host

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the connection is there."""

    @abstractmethod
    def close(self) -> None:
        """End it, and what runs on it."""

    @abstractmethod
    def check_link(self) -> None:
        """Raises UnreachableError where the other end is not heard any more."""

    @abstractmethod
    def _opened(self, argv: Sequence[str]) -> Any:
        """A channel on which a command begins. Raises UnreachableError."""

    def silent(self, what: str) -> UnreachableError:
        """No answer, as an error."""
        fix = f"is the host up? {self.login.words()['ping']}"
        return UnreachableError("SSH_TIMEOUT", f"{self.name}: {what}", host=self.name, fix=fix)

    def failed(self, error: BaseException) -> UnreachableError:
        """A failure of SSH, with its cause where there is one."""
        said = str(error) or type(error).__name__
        cause = self.cause(said)
        message = f"{self.name}: {cause.message}"
        evidence = () if cause.code == "SSH_FAILED" else (said,)
        return UnreachableError(cause.code, message, host=self.name, evidence=evidence, fix=cause.fix)

    def cause(self, said: str) -> Failure:
        """Why SSH did not let us in. In: what was said."""
        return failure_of(Event("unreachable", "", "", self.name, {"msg": said or "it said nothing"}), self.login)

    def never_begun(self, session: Session, out: str) -> R1Error:
        """The login let us in, and the command was not run: sudo, or the login's shell. In: what it printed."""
        said = f"{out}\n{session.said.text}".strip()
        cause = self.cause(said)
        if cause.code != "SSH_FAILED":
            return self.caused(cause)
        message = f"{self.name}: the login ends before our command begins"
        fix = f"see what its shell says: {self.login.words()['ssh']} true"
        return UnreachableError("SHELL_ENDS", message, host=self.name, evidence=said.splitlines()[-5:], fix=fix)

    def caused(self, cause: Failure) -> R1Error:
        """A cause as an error."""
        kind = PreflightError if cause.code.startswith("SUDO_") else UnreachableError
        message = f"{self.name}: {cause.message}"
        return kind(cause.code, message, host=self.name, evidence=cause.evidence, fix=cause.fix)

    def no_answer(self, what: str, code: int, said: str) -> R1Error:
        """A script that ended without its answer, with the cause where what it said has one."""
        cause = failure_of(Event("failed", "", "", self.name, {"msg": said or "it said nothing"}), self.login)
        if cause.code != "STEP_FAILED":
            message = f"{self.name}: {what}: {cause.message}"
            return ApplyError(cause.code, message, host=self.name, evidence=cause.evidence, fix=cause.fix)
        message = f"{self.name}: {what} ended with code {code} and no answer"
        return ApplyError("STEP_FAILED", message, host=self.name, evidence=said.strip().splitlines()[-8:])

    def start(self, command: str, err: Take | None = None) -> Session:
        """Start a command of a POSIX shell as root, and wait until it begins. Raises UnreachableError, PreflightError.

        In: ``err`` takes what it says on standard error; None: it is kept in ``said``.
        """
        token = f"r1-{secrets.token_hex(8)}"
        framed = f"echo {token}; echo {token} >&2; {command}"
        argv = [*self.login.sudo(prompt_of(token)), "sh", "-c", framed]
        session = Session(self, self._opened(argv), token, err)
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
            session.send(shipping.parcel(module, order))
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
