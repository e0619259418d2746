"""What streams over SSH (fabric): a script in the head's container, the hosts' logs."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r1deploy.cluster.host import Host
from r1deploy.errors import UnreachableError
from r1deploy.settings.model import Ssh

Line = Callable[[str], None]


class _Lines(io.StringIO):
    """A stream that hands over whole lines."""

    def __init__(self, take: Line) -> None:
        super().__init__()
        self._take = take
        self._rest = ""

    def write(self, text: str) -> int:
        self._rest += text
        *whole, self._rest = self._rest.split("\n")
        for line in whole:
            self._take(line)
        return len(text)


class Remote:
    """A connection to one host, with the same login as Ansible's. Unknown host keys are refused."""

    def __init__(self, host: Host, login: dict[str, Any], ssh: Ssh) -> None:
        import fabric
        import paramiko

        key = login.get("ansible_ssh_private_key_file") or ssh.key_file
        user = login.get("ansible_user") or ssh.user
        self.host = host
        self.sudo = "" if user == "root" else "sudo -n "
        connect: dict[str, Any] = {"key_filename": key, "look_for_keys": key is None} if key else {}
        self._connection = fabric.Connection(
            str(login.get("ansible_host") or host.address),
            user=user,
            port=int(login.get("ansible_port") or ssh.port or 22),
            connect_timeout=ssh.connect_timeout,
            connect_kwargs=connect,
        )
        client = self._connection.client
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.load_system_host_keys()
        if ssh.known_hosts and Path(ssh.known_hosts).exists():
            client.load_system_host_keys(ssh.known_hosts)

    def run(self, command: str, line: Line | None = None) -> tuple[int, str]:
        """Run a command as root; returns its exit code and what it printed.

        In: ``line`` takes each line as it comes. Raises UnreachableError.
        """
        import paramiko

        streams = {"out_stream": _Lines(line)} if line else {"hide": True}
        try:
            done = self._connection.run(self.sudo + command, in_stream=False, warn=True, **streams)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise UnreachableError("SSH_FAILED", f"{self.host.name}: {error}", host=self.host.name) from error
        return int(done.exited), str(done.stdout) or str(done.stderr)

    def script(self, source: str, payload: bytes, line: Line) -> tuple[int, str]:
        """Run a Python script as root on the host; it goes in on standard input, so nothing of it shows in ``ps``.

        In: what the script may read there after itself; ``line`` takes each line it prints. Returns its exit code
        and what it said on standard error. Raises UnreachableError.
        """
        import paramiko

        text = source.encode()
        loader = "import sys; i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), 'r1deploy', 'exec'))"
        try:
            self._connection.open()
            channel = self._connection.transport.open_session()
            channel.exec_command(f"{self.sudo}/usr/bin/python3 -c {shlex.quote(loader)}")
            channel.sendall(f"{len(text)}\n".encode() + text + payload)
            channel.shutdown_write()
            with channel.makefile("r") as output:
                for row in output:
                    line(row.rstrip("\n"))
            said = channel.makefile_stderr("r").read()
            return channel.recv_exit_status(), said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise UnreachableError("SSH_FAILED", f"{self.host.name}: {error}", host=self.host.name) from error

    def python_in(self, container: str, python: str, code: str) -> Any:
        """The JSON that a script prints last inside a container, or None where it gives none."""
        argv = ["docker", "exec", container, python, "-c", code]
        status, text = self.run(shlex.join(argv))
        lines = text.strip().splitlines()
        if status != 0 or not lines:
            return None
        try:
            return json.loads(lines[-1])
        except ValueError:
            return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
