"""What streams over SSH (fabric): a script in the head's container, the hosts' logs."""

from __future__ import annotations

import io
import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r1deploy import shipping
from r1deploy.cluster.host import Host
from r1deploy.dockercli import docker
from r1deploy.errors import UnreachableError
from r1deploy.runner.ansible import login_vars
from r1deploy.settings.model import Ssh

Line = Callable[[str], None]
# A short script that is silent for so long hangs, or its host is gone.
ANSWER_SECONDS = 60


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

    def end(self) -> None:
        """Hand over a last line without an end."""
        if self._rest:
            self._take(self._rest)
            self._rest = ""


class Remote:
    """A connection to one host: the same login, jump hosts and sudo as Ansible's. Unknown host keys are refused."""

    def __init__(self, host: Host, login: dict[str, Any], ssh: Ssh) -> None:
        import fabric
        import paramiko

        self.host = host
        self._login = login
        self._ssh = ssh
        self._forward: subprocess.Popen[bytes] | None = None
        found = resolved(host, login, ssh)
        key = login.get("ansible_ssh_private_key_file") or ssh.key_file
        keys = [key] if key else [path for path in found.get("identityfile", []) if Path(path).expanduser().exists()]
        self.sudo, self._password = sudo_of(login, found["user"][0])
        # All of ssh's configuration is in `found`; fabric's own reading of it would trust a jump host's key unseen.
        self._connection = fabric.Connection(
            found["hostname"][0],
            user=found["user"][0],
            port=int(found["port"][0]),
            connect_timeout=ssh.connect_timeout,
            connect_kwargs={"key_filename": keys, "look_for_keys": False} if keys else {},
            gateway=gateway_of(found) or False,
            config=fabric.Config(overrides={"load_ssh_configs": False}),
        )
        client = self._connection.client
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        for path in found.get("userknownhostsfile", []) + found.get("globalknownhostsfile", []):
            if Path(path).expanduser().is_file():
                client.load_system_host_keys(str(Path(path).expanduser()))

    def run(
        self, command: str, line: Line | None = None, error_line: Line | None = None, timeout: int | None = None
    ) -> tuple[int, str]:
        """Run a command as root; returns its exit code and what it printed.

        In: ``line`` takes each line as it comes, ``error_line`` those of standard error
        (None: they go where ours go); ``timeout`` in seconds. Raises UnreachableError.
        """
        import invoke
        import paramiko

        streams: dict[str, Any] = {"out_stream": _Lines(line)} if line else {"hide": True}
        if error_line:
            streams["err_stream"] = _Lines(error_line)
        stdin = io.StringIO(f"{self._password}\n") if self._password else False
        try:
            done = self._connection.run(self.sudo + command, in_stream=stdin, warn=True, timeout=timeout, **streams)
        except invoke.exceptions.CommandTimedOut:
            message = f"{self.host.name}: no answer in {timeout} s"
            raise UnreachableError("SSH_TIMEOUT", message, host=self.host.name) from None
        except (OSError, EOFError, paramiko.SSHException, paramiko.ProxyCommandFailure) as error:
            raise UnreachableError("SSH_FAILED", f"{self.host.name}: {error}", host=self.host.name) from error
        for stream in streams.values():
            if isinstance(stream, _Lines):
                stream.end()
        return int(done.exited), str(done.stdout) or str(done.stderr)

    def start(self, module: str, order: Mapping[str, Any]) -> Any:
        """Start a module of ``r1deploy.onhost`` as root; returns its channel. Raises UnreachableError."""
        import paramiko

        try:
            if not self._connection.is_connected:
                self._connection.open()
            channel = self._connection.transport.open_session()
            channel.exec_command(self.sudo + shipping.command("/usr/bin/python3", module))
            if self._password:
                channel.sendall(f"{self._password}\n".encode())
            channel.sendall(shipping.parcel(order))
        except (OSError, EOFError, paramiko.SSHException, paramiko.ProxyCommandFailure) as error:
            raise UnreachableError("SSH_FAILED", f"{self.host.name}: {error}", host=self.host.name) from error
        return channel

    def local_address(self) -> str:
        """The address of this machine that the host sees."""
        if not self._connection.is_connected:
            self.run("true")
        try:
            return str(self._connection.transport.sock.getsockname()[0])
        except (AttributeError, OSError):
            return "a jump host"

    def script(self, module: str, order: Mapping[str, Any], payload: bytes, line: Line) -> tuple[int, str]:
        """Run a module of ``r1deploy.onhost`` as root on the host.

        In: its order; what it may read after that; ``line`` takes each line it prints. Returns its exit code
        and what it said on standard error. Raises UnreachableError.
        """
        import paramiko

        channel = self.start(module, order)
        try:
            channel.sendall(payload)
            channel.shutdown_write()
            with channel.makefile("r") as output:
                for row in output:
                    line(row.rstrip("\n"))
            said = channel.makefile_stderr("r").read()
            return channel.recv_exit_status(), said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        except (OSError, EOFError, paramiko.SSHException, paramiko.ProxyCommandFailure) as error:
            raise UnreachableError("SSH_FAILED", f"{self.host.name}: {error}", host=self.host.name) from error

    def python_in(self, container: str, python: str, code: str) -> Any:
        """The JSON that a script prints last inside a container, or None where it gives none."""
        argv = docker("exec", container, python, "-c", code)
        status, text = self.run(shlex.join(argv), timeout=ANSWER_SECONDS)
        lines = text.strip().splitlines()
        if status != 0 or not lines:
            return None
        try:
            return json.loads(lines[-1])
        except ValueError:
            return None

    def forward(self, port: int, local: int = 0) -> str:
        """Bring a port of the host here until ``close``; returns ``http://127.0.0.1:<local port>``.

        In: ``local``, the port here (0: a free one). Raises UnreachableError TUNNEL_FAILED with what ssh said.
        """
        if local and answers(local):
            raise self._broken(f"something listens on port {local} here already")
        local = local or free_port()
        argv = ["ssh", *options(self._login, self._ssh), "-S", "none", "-o", "ExitOnForwardFailure=yes"]
        argv += ["-L", f"127.0.0.1:{local}:{self.host.address}:{port}", destination(self.host, self._login), "cat"]
        # `cat` ends with our end of its pipe, and ssh with it: after a kill -9 of this process too.
        self._forward = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        deadline = time.monotonic() + self._ssh.connect_timeout + 5
        while self._forward.poll() is None and time.monotonic() < deadline:
            if answers(local):
                return f"http://127.0.0.1:{local}"
            time.sleep(0.05)
        raise self._broken(f"ssh cannot bring its port {port} here")

    def wait(self) -> None:
        """Wait until the forwarding ends by itself. Raises UnreachableError TUNNEL_FAILED."""
        if self._forward:
            self._forward.wait()
            raise self._broken("the tunnel broke")

    def _broken(self, what: str) -> UnreachableError:
        said = self._end_forward()
        fix = "name another port with --port, or allow AllowTcpForwarding in the host's sshd_config"
        return UnreachableError(
            "TUNNEL_FAILED", f"{self.host.name}: {what}", host=self.host.name, evidence=said[-5:], fix=fix
        )

    def _end_forward(self) -> list[str]:
        """End the forwarding, if there is one; what ssh said."""
        if self._forward is None:
            return []
        self._forward.terminate()
        said = self._forward.communicate()[1]
        self._forward = None
        return said.decode("utf-8", "replace").strip().splitlines()

    def close(self) -> None:
        """Close the connection and what ``forward`` opened."""
        self._connection.close()
        self._end_forward()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def options(login: dict[str, Any], ssh: Ssh) -> list[str]:
    """OpenSSH's options for a host, in the order in which Ansible gives them: the first one wins."""
    found = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={ssh.connect_timeout}"]
    port = login.get("ansible_port") or ssh.port
    user = login.get("ansible_user") or ssh.user
    key = login.get("ansible_ssh_private_key_file") or ssh.key_file
    found += ["-p", str(port)] if port else []
    found += ["-i", str(Path(key).expanduser())] if key else []
    found += ["-l", str(user)] if user else []
    own = login_vars(ssh)
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        found += shlex.split(str(login.get(name) or own.get(name) or ""))
    return found


def destination(host: Host, login: dict[str, Any]) -> str:
    """What ssh connects to."""
    return str(login.get("ansible_host") or host.address)


def resolved(host: Host, login: dict[str, Any], ssh: Ssh) -> dict[str, list[str]]:
    """What OpenSSH makes of the options and of the user's own ssh_config: keyword → values.

    Raises UnreachableError where ssh refuses the options.
    """
    argv = ["ssh", "-G", *options(login, ssh), destination(host, login)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-5:]
        message = f"{host.name}: ssh refuses its options"
        fix = "correct ansible_ssh_common_args in the inventory, or ~/.ssh/config"
        raise UnreachableError("SSH_FAILED", message, host=host.name, evidence=said, fix=fix)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        word, _, value = line.partition(" ")
        found.setdefault(word, []).extend(value.split() if word.endswith("knownhostsfile") else [value])
    return found


def gateway_of(found: dict[str, list[str]]) -> str | None:
    """The command that leads to the host through its jump hosts; None: there are none."""
    command = found.get("proxycommand", ["none"])[0]
    if command != "none":
        # Not left to fabric, which takes %p for 22.
        tokens = {"%h": found["hostname"][0], "%p": found["port"][0], "%r": found["user"][0]}
        return re.sub("%[hpr]", lambda token: tokens[token.group()], command)
    jumps = found.get("proxyjump", ["none"])[0]
    if jumps == "none":
        return None
    *before, last = jumps.split(",")
    user, _, place = last.rpartition("@")
    name, _, port = place.removeprefix("ssh://").partition(":")
    argv = ["ssh", "-o", "BatchMode=yes", "-W", f"{found['hostname'][0]}:{found['port'][0]}"]
    argv += ["-J", ",".join(before)] if before else []
    argv += ["-l", user.removeprefix("ssh://")] if user else []
    argv += ["-p", port] if port else []
    return shlex.join([*argv, name])


def sudo_of(login: dict[str, Any], user: str) -> tuple[str, str | None]:
    """What makes a command root's, and the password it reads, if any."""
    become = login.get("ansible_become")
    if str(user if become is None else become).lower() in ("root", "false", "no"):
        return "", None
    password = login.get("ansible_become_password") or login.get("ansible_become_pass")
    return ("sudo -S -p '' ", str(password)) if password else ("sudo -n ", None)


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
