"""A connection to one host, through fabric: commands, scripts and forwardings, as root.

Shells of sites print what they like, sudo asks for a password or does not, links go down. So
each command begins with a mark of its own: what comes before it is the login's, what sudo asks
is answered at its own prompt, and a link on which nothing is heard any more ends in an error.
"""

from __future__ import annotations

import codecs
import contextlib
import inspect
import json
import queue
import random
import re
import secrets
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

from r1deploy import shipping
from r1deploy.dockercli import docker
from r1deploy.errors import ApplyError, PreflightError, R1Error, UnreachableError
from r1deploy.runner.events import Event, failure_of
from r1deploy.ssh import ALIVE_COUNT, ALIVE_SECONDS, LOGINS_THROUGH_A_JUMP_HOST, Login

Line = Callable[[str], None]
Take = Callable[[bytes], None]
T = TypeVar("T")
# A short script that is silent for so long hangs, or its host is gone.
ANSWER_SECONDS = 60
# A login shell, and sudo with a directory service behind it, are slow; one that waits for input hangs.
BEGIN_SECONDS = 60
SILENCE_SECONDS = ALIVE_SECONDS * ALIVE_COUNT
LOGIN_ATTEMPTS = 4
BLOCK = 65536
# A longer line is handed over in parts; of a command's output only its end is kept.
LONGEST_LINE = 64 << 10
KEPT = 4 << 20
# In front of each answer of a script: what else a host prints is not one.
MARK = "r1:"
_THROUGH_JUMP_HOSTS = threading.BoundedSemaphore(LOGINS_THROUGH_A_JUMP_HOST)


class Lines:
    """Bytes as they come → whole lines of text; time and memory do not grow with what went before."""

    def __init__(self, take: Line) -> None:
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


class Session:
    """A command at work on a host."""

    def __init__(self, remote: Remote, channel: Any, token: str, err: Take | None) -> None:
        self._remote, self._channel, self._token, self._err = remote, channel, token, err
        self.said = Kept()  # on standard error, where nobody takes it
        self.deadline: float | None = None  # of the next output
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

    def _blocks(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        """What comes until the other end closes. Raises UnreachableError where the link is silent."""
        while True:
            try:
                data = read(BLOCK)
            except TimeoutError:
                self._remote.check_link()
                if self.deadline is not None and time.monotonic() > self.deadline:
                    raise self._remote.silent("no answer in time") from None
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
        self._errors.join(5)
        if self._trouble:
            raise self._trouble
        raise self._never_begun(before.decode("utf-8", "replace"))

    def _never_begun(self, out: str) -> R1Error:
        """The login let us in, and the command was not run: sudo, or the login's shell."""
        login = self._remote.login
        said = f"{out}\n{self.said.text}".strip()
        cause = failure_of(Event("unreachable", "", "", login.host, {"msg": said or "it said nothing"}), login)
        if cause.code == "SSH_FAILED":
            message = f"{login.host}: the login ends before our command begins"
            fix = f"see what its shell says: {login.words()['ssh']} true"
            return UnreachableError("SHELL_ENDS", message, host=login.host, evidence=said.splitlines()[-5:], fix=fix)
        kind = PreflightError if cause.code.startswith("SUDO_") else UnreachableError
        message = f"{login.host}: {cause.message}"
        return kind(cause.code, message, host=login.host, evidence=cause.evidence, fix=cause.fix)

    def read(self) -> Iterator[bytes]:
        """What the command prints, until it ends. Raises UnreachableError after ``deadline``, and on a silent link."""
        if self._first:
            yield self._first
        yield from self._blocks(self._channel.recv)
        self._errors.join(ANSWER_SECONDS)
        if self._trouble:
            raise self._trouble

    def send(self, data: bytes) -> None:
        """Write to the command's standard input. Raises UnreachableError."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._channel.send(rest) :]
            except TimeoutError:
                self._remote.check_link()
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
        """Wait for the end; the exit code. Raises UnreachableError where the connection ended first."""
        while not self._channel.status_event.wait(1.0):
            self._remote.check_link()
        found = int(self._channel.recv_exit_status())
        if found == -1 and not self._remote.alive:
            raise self._remote.silent("the connection ended")
        return found

    def close(self) -> None:
        """End the command's channel."""
        self._channel.close()


class Remote:
    """A connection to one host: the same login, jump hosts and sudo as Ansible's. Unknown host keys are refused."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._open: list[Any] = []
        self._closed = False
        self._heard = 0.0
        self._forward: subprocess.Popen[bytes] | None = None
        self._forward_said: Any = None

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
        self, command: str, line: Line | None = None, error_line: Line | None = None, timeout: int | None = None
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
        session.send(shipping.parcel(order))
        return session

    def python_in(self, container: str, python: str, module: ModuleType, order: Mapping[str, Any]) -> Any:
        """What a module that imports no other one of ours answers in a container, or None where it does not."""
        argv = docker("exec", container, python, "-c", inspect.getsource(module), json.dumps(order))
        status, text = self.run(shlex.join(argv), timeout=ANSWER_SECONDS)
        return answer_in(text) if status == 0 else None

    def forward(self, port: int, local: int = 0) -> str:
        """Bring a port of the host here until ``close``; returns ``http://127.0.0.1:<local port>``.

        In: ``local``, the port here (0: a free one). Raises UnreachableError TUNNEL_FAILED with what ssh said.
        """
        if local and answers(local):
            raise self._broken(f"something listens on port {local} here already", "name another port with --port")
        local = local or free_port()
        more = [
            "-S",
            "none",
            "-o",
            "ExitOnForwardFailure=yes",
            "-L",
            f"127.0.0.1:{local}:{self.login.inside or self.login.address}:{port}",
        ]
        # `cat` ends with our end of its pipe, and ssh with it: after a kill -9 of this process too.
        argv = [*self.login.openssh(*more, forwarding=True), "cat"]
        # A file: each refused connection adds a line, and a pipe that nobody reads would stop ssh.
        self._forward_said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the forwarding
        self._forward = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._forward_said, start_new_session=True
        )
        deadline = time.monotonic() + self.login.seconds + 5
        while self._forward.poll() is None and time.monotonic() < deadline:
            if answers(local):
                self._try_forward(local)
                return f"http://127.0.0.1:{local}"
            time.sleep(0.05)
        raise self._broken(f"ssh cannot bring its port {port} here", "name another port with --port")

    def _try_forward(self, local: int) -> None:
        """One connection to the end: ssh listens here although sshd forwards nothing (AllowTcpForwarding no)."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local), timeout=5) as trial:
            trial.settimeout(2)
            trial.sendall(b"HEAD /health HTTP/1.0\r\n\r\n")
            trial.recv(1)
        if re.search("administratively prohibited|forwarding failed", self._forward_text()):
            fix = "allow it in the host's sshd_config: AllowTcpForwarding yes (or local), no PermitOpen that forbids it"
            raise self._broken("its sshd forwards no ports", fix)

    def wait(self) -> None:
        """Wait until the forwarding ends by itself. Raises UnreachableError TUNNEL_FAILED."""
        if self._forward:
            self._forward.wait()
            raise self._broken("the tunnel broke", "run it again")

    def _forward_text(self) -> str:
        self._forward_said.seek(0)
        return str(self._forward_said.read(BLOCK).decode("utf-8", "replace"))

    def _broken(self, what: str, fix: str) -> UnreachableError:
        said = self._end_forward()
        message = f"{self.name}: {what}"
        return UnreachableError("TUNNEL_FAILED", message, host=self.name, evidence=said[-5:], fix=fix)

    def _end_forward(self) -> list[str]:
        """End the forwarding, if there is one; what ssh said."""
        if self._forward is None:
            return []
        self._forward.terminate()
        self._forward.communicate()
        said = self._forward_text().strip().splitlines()
        self._forward_said.close()
        self._forward = None
        return said

    def close(self) -> None:
        """Close the connections and what ``forward`` opened."""
        self._closed = True
        for connection in self._open:
            connection.close()
        self._end_forward()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def on_each(remotes: Sequence[Remote], work: Callable[[Remote], T]) -> list[T]:
    """Work on all connections at once, and close them; Ctrl-C and an error of ours end all of them at once.

    Raises the first R1Error after all have ended; its evidence names the others.
    """
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def one(place: int) -> None:
        try:
            results[place] = work(remotes[place])
        except BaseException as error:  # raised below, in the thread that waits
            errors[place] = error
        finally:
            ended.put(place)

    try:
        for place in range(len(remotes)):
            # A daemon: one that is still connecting must not keep the process after Ctrl-C.
            threading.Thread(target=one, args=(place,), daemon=True).start()
        for _ in remotes:
            error = errors.get(ended.get())
            if error is not None and not isinstance(error, R1Error):
                raise error
    finally:
        for remote in remotes:
            remote.close()
    if errors:
        first, *others = [errors[place] for place in sorted(errors)]
        if isinstance(first, R1Error):
            first.evidence = (*first.evidence, *(str(error) for error in others))
        raise first
    return [results[place] for place in range(len(remotes))]


def prompt_of(token: str) -> str:
    """sudo's prompt for one command: nothing else prints it."""
    return f"[{token}] password: "


def refused_password(login: Login) -> PreflightError:
    """Sudo asked again."""
    fix = "correct ansible_become_password in the inventory; is the login allowed to use sudo at all?"
    message = f"{login.host}: sudo does not take the password"
    return PreflightError("SUDO_PASSWORD", message, host=login.host, fix=fix)


def dropped(error: BaseException) -> bool:
    """Whether sshd ended a login before it began, as it does when too many are under way."""
    said = f"{type(error).__name__} {error}"
    return bool(re.search("banner|EOFError|Connection reset|ConnectionResetError|Broken ?[Pp]ipe|Negotiation", said))


def answer_in(text: str) -> Any:
    """The JSON behind the last mark in a text; None where there is none."""
    _, mark, rest = text.rpartition(MARK)
    if not mark:
        return None
    try:
        return json.JSONDecoder().raw_decode(rest)[0]
    except ValueError:
        return None


def free_port() -> int:
    """A port here that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something answers at a port here."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
