"""A port of a host, brought here over SSH by OpenSSH's own client."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import tempfile
import time
from typing import IO

from r1deploy.errors import UnreachableError
from r1deploy.ssh import Login

# Of what ssh says.
MOST = 65536
OPEN_SECONDS = 5


class Forwarding:
    """A port of a host that is brought here until ``close``. Raises UnreachableError TUNNEL_FAILED with ssh's words."""

    def __init__(self, login: Login, port: int, local: int = 0) -> None:
        """In: the port there; the one here, 0 for a free one."""
        self._login = login
        self._process: subprocess.Popen[bytes] | None = None
        # A file: each refused connection adds a line, and a pipe that nobody reads would stop ssh.
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the forwarding
        if local and answers(local):
            raise self._broken(f"something listens on port {local} here already", "name another port with --port")
        self._local = local or free_port()
        self.url = f"http://127.0.0.1:{self._local}"
        try:
            self._open(port)
        except BaseException:
            self._end()
            raise

    def _open(self, port: int) -> None:
        way = f"127.0.0.1:{self._local}:{self._login.inside or self._login.address}:{port}"
        more = ["-S", "none", "-o", "ExitOnForwardFailure=yes", "-L", way]
        # `cat` ends with our end of its pipe, and ssh with it: after a kill -9 of this process too.
        argv = [*self._login.openssh(*more, forwarding=True), "cat"]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, start_new_session=True
        )
        deadline = time.monotonic() + self._login.seconds + OPEN_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if answers(self._local):
                self._try()
                return
            time.sleep(0.05)
        raise self._broken(f"ssh cannot bring its port {port} here", "name another port with --port")

    def _try(self) -> None:
        """One connection to the end: ssh listens here although sshd forwards nothing (AllowTcpForwarding no)."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._local), timeout=5) as trial:
            trial.settimeout(2)
            trial.sendall(b"HEAD /health HTTP/1.0\r\n\r\n")
            trial.recv(1)
        if re.search("administratively prohibited|forwarding failed", self._text()):
            fix = "allow it in the host's sshd_config: AllowTcpForwarding yes (or local), no PermitOpen that forbids it"
            raise self._broken("its sshd forwards no ports", fix)

    def wait(self) -> None:
        """Wait until the forwarding ends by itself. Raises UnreachableError TUNNEL_FAILED."""
        if self._process:
            self._process.wait()
            raise self._broken("the tunnel broke", "run it again")

    def _text(self) -> str:
        self._said.seek(0)
        return self._said.read(MOST).decode("utf-8", "replace")

    def _broken(self, what: str, fix: str) -> UnreachableError:
        self._end()
        evidence = self._text().strip().splitlines()[-5:]
        self._said.close()
        host = self._login.host
        return UnreachableError("TUNNEL_FAILED", f"{host}: {what}", host=host, evidence=evidence, fix=fix)

    def _end(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        """End it."""
        self._end()
        self._said.close()


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
