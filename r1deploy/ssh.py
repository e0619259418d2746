"""The one door to SSH: how to reach a host, as one value, in the words of Ansible, of OpenSSH and of fabric.

A login is made once, from what the settings say and what Ansible read in the inventory,
and whoever connects takes it from here: so no connection lacks what another one has.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import logging
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from r1deploy.cluster.host import Host
from r1deploy.errors import UnreachableError
from r1deploy.inventorytext import Template
from r1deploy.settings import redact
from r1deploy.settings.model import Ssh

# A user's ssh_config is for people at a terminal. What breaks use by a program is switched off: a terminal changes the
# bytes, another command or none runs in place of ours, what is local prints into our answers.
QUIET = (
    "RequestTTY=no",
    "RemoteCommand=none",
    "SessionType=default",
    "StdinNull=no",
    "ForkAfterAuthentication=no",
    "PermitLocalCommand=no",
)
# A forwarding of ssh_config whose port is taken may end the connection; for the tunnel ours is one.
NO_FORWARDING = "ClearAllForwardings=yes"
# A link that went down is noticed after the product of both, in seconds.
ALIVE_SECONDS, ALIVE_COUNT = 5, 6
ALIVE = (f"ServerAliveInterval={ALIVE_SECONDS}", f"ServerAliveCountMax={ALIVE_COUNT}")
# sshd begins to drop logins when ten are under way at once (MaxStartups 10:30:100): all of a cluster's go through one
# jump host.
LOGINS_THROUGH_A_JUMP_HOST = 8
# A connection stays open for the next command. A fast cipher first: trees of several GB go through it.
KEPT = ("-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", "Ciphers=^aes128-gcm@openssh.com")
# 108 bytes less a slash, OpenSSH's hash of the place (40), its end while it makes the socket (17), and the zero.
LONGEST_SOCKETS = 49
# English messages, whatever the host speaks: causes are read from them.
SUDO = "env LC_ALL=C.UTF-8 sudo"
OWN_KNOWN_HOSTS = "~/.ssh/known_hosts"
# The inventory's names for one thing, the strongest first.
ADDRESS = ("ansible_host", "ansible_ssh_host")
PORT = ("ansible_port", "ansible_ssh_port")
USER = ("ansible_user", "ansible_ssh_user")
KEY = ("ansible_ssh_private_key_file", "ansible_private_key_file")
PASSWORD = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")


@dataclass(frozen=True)
class Login:
    """How to reach one host. None and empty: OpenSSH decides, by ssh_config and its defaults.

    ``address`` is what ssh connects to, ``inside`` what the cluster's hosts do; ``arguments`` are the inventory's own
    for OpenSSH; ``become`` is None where the inventory says nothing: then every user but root goes through sudo.
    ``sockets`` is the folder of the connections that OpenSSH keeps open for the run.
    """

    host: str
    address: str
    user: str | None = None
    port: int | None = None
    key: str | None = None
    known_hosts: str | None = None
    jump: Login | None = None
    arguments: tuple[str, ...] = ()
    seconds: int = 10
    become: bool | None = None
    password: str | None = field(default=None, repr=False)
    interpreter: str | None = None
    inside: str | None = None
    sockets: str | None = None

    def openssh(self, *more: str, forwarding: bool = False) -> list[str]:
        """``ssh`` with all options and the host; the command is to follow. In: options of the caller's."""
        return ["ssh", *self.options(forwarding=forwarding), *more, self.address]

    def options(self, *, forwarding: bool = False) -> list[str]:
        """OpenSSH's options. The first one wins: what we need, then the inventory's, then the settings'."""
        options = [*self.kept(), *ours(forwarding=forwarding), "-o", f"ConnectTimeout={self.seconds}"]
        options += ["-p", str(self.port)] if self.port else []
        options += ["-i", str(Path(self.key).expanduser())] if self.key else []
        options += ["-l", self.user] if self.user else []
        return [*options, *self.arguments, *self.way()]

    def kept(self) -> list[str]:
        """Options with which a connection is taken that is open, or left open for the next one."""
        return [*KEPT, "-o", f"ControlPath={control_path(self.sockets)}"] if self.sockets else []

    def way(self) -> list[str]:
        """The settings' options that an ``ansible_ssh_common_args`` of the inventory goes before."""
        # Only this key: an agent with many keys runs into the server's limit of attempts.
        options = ["-o", "IdentitiesOnly=yes"] if self.key else []
        options += ["-o", f"UserKnownHostsFile={self.known_hosts}"] if self.known_hosts else []
        if self.jump:
            # -J would not hand our key and known_hosts to the jump host's connection.
            options += ["-o", f"ProxyCommand={shlex.join(self.jump.openssh('-W', '%h:%p'))}"]
        return options

    def ansible(self) -> dict[str, Any]:
        """Variables for all hosts; the inventory's hosts may say otherwise.

        The settings' way is in the *extra* arguments: an ``ansible_ssh_common_args`` of the inventory (a jump host)
        comes before them and does not replace them.
        """
        variables: dict[str, Any] = {
            # Steps need root: a login that is not root's goes through sudo, unless the inventory says otherwise.
            "r1_own_login": getpass.getuser(),
            "ansible_become": Template("{{ (ansible_user | default(r1_own_login)) != 'root' }}"),
            "ansible_become_exe": SUDO,
            "ansible_ssh_timeout": self.seconds,
            "ansible_ssh_args": shlex.join([*KEPT, *ours()]),
            # rsync's ssh has no time-out of Ansible's.
            "ansible_ssh_extra_args": shlex.join(["-o", f"ConnectTimeout={self.seconds}", *self.way()]),
        }
        named = {"ansible_user": self.user, "ansible_port": self.port, "ansible_ssh_private_key_file": self.key}
        return {**variables, **{name: value for name, value in named.items() if value}}

    def fabric(self) -> Any:
        """A ``fabric.Connection``, not yet open. Unknown host keys are refused. Raises UnreachableError."""
        import fabric
        import paramiko

        # Its errors come as exceptions; nobody needs them on the terminal too.
        logging.getLogger("paramiko").addHandler(logging.NullHandler())
        resolved = self.resolved()
        keys = [self.key] if self.key else resolved.get("identityfile", [])
        paths = [path for path in map(expanded, keys) if self.key or Path(path).exists()]
        # All of ssh's configuration is in `resolved`; fabric's own reading of it would trust a jump host's key unseen.
        connection = fabric.Connection(
            resolved["hostname"][0],
            user=resolved["user"][0],
            port=int(resolved["port"][0]),
            connect_timeout=self.seconds,
            connect_kwargs={"key_filename": paths, "look_for_keys": False} if paths else {},
            gateway=gateway_of(resolved) or False,
            config=fabric.Config(overrides={"load_ssh_configs": False}),
        )
        connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        for path in map(expanded, resolved.get("userknownhostsfile", []) + resolved.get("globalknownhostsfile", [])):
            if Path(path).is_file():
                connection.client.load_system_host_keys(path)
        return connection

    def resolved(self) -> dict[str, list[str]]:
        """What OpenSSH makes of the options and of ssh_config: keyword → values.

        Raises UnreachableError where ssh refuses the options.
        """
        return dict(configuration(self.host, (*self.options(), self.address)))

    def sudo(self, prompt: str) -> list[str]:
        """What goes before a command that needs root; a password is asked for with ``prompt``."""
        become = self.become
        if become is None:
            become = (self.user or self.resolved()["user"][0]) != "root"
        if not become:
            return []
        return [*SUDO.split(), "-S", "-p", prompt] if self.password else [*SUDO.split(), "-n"]

    def python(self) -> str:
        """Words of a POSIX shell that become the host's Python; arguments may follow."""
        return python_words(self.interpreter)

    def words(self) -> dict[str, str]:
        """What messages advise to do, with the real user, address, port and files."""
        place = f"{self.user}@{self.address}" if self.user else self.address
        port = ["-p", str(self.port)] if self.port not in (None, 22) else []
        key = ["-i", self.key] if self.key else []
        file = ["-o", f"UserKnownHostsFile={self.known_hosts}"] if self.known_hosts else []
        jump = ["-J", self.jump.place()] if self.jump else []
        return {
            "address": self.address,
            "user": self.user or "USER",
            "ssh": shlex.join(["ssh", *port, *key, *self.arguments, *file, *jump, place]),
            "copy_id": shlex.join(["ssh-copy-id", *port, *key, *file, place]),
            "ping": shlex.join(["ping", self.address]),
        }

    def forget(self, said: str = "") -> str:
        """What takes the host's old key away: the name and the file that OpenSSH means, by ssh_config too.

        In: what ssh said; where it names the jump host's key, that one is meant.
        """
        name, file = self.known_as()
        if self.jump and f"Host key for {self.jump.known_as()[0]} has changed" in said:
            name, file = self.jump.known_as()
        return shlex.join(["ssh-keygen", *(["-f", file] if file else []), "-R", name])

    def known_as(self) -> tuple[str, str | None]:
        """The host's name in known_hosts, and which file that is; None: the user's own."""
        resolved: Mapping[str, list[str]] = {}
        with contextlib.suppress(UnreachableError):  # ssh refuses its options: what we know is what there is
            resolved = self.resolved()
        file = expanded(resolved.get("userknownhostsfile", [self.known_hosts or OWN_KNOWN_HOSTS])[0])
        shown = None if file == expanded(OWN_KNOWN_HOSTS) else file
        if "hostkeyalias" in resolved:
            return resolved["hostkeyalias"][0], shown
        name, port = resolved.get("hostname", [self.address])[0], resolved.get("port", [str(self.port or 22)])[0]
        return name if port == "22" else f"[{name}]:{port}", shown

    def place(self) -> str:
        """``[user@]address[:port]``."""
        return f"{f'{self.user}@' if self.user else ''}{self.address}{f':{self.port}' if self.port else ''}"


def login_of(host: Host, variables: Mapping[str, Any], ssh: Ssh) -> Login:
    """The login of a host.

    In: ``variables``, which Ansible read for it; the settings hold where they say nothing.
    """
    password = first_of(variables, PASSWORD)
    if password is not None:
        redact.remember(str(password))
    base = login_of_all(ssh)
    arguments = [str(variables.get(f"ansible_ssh_{name}_args") or "") for name in ("common", "extra")]
    # The settings' own come back from Ansible; the inventory's stand in their place, with Ansible as here.
    own = arguments[1] in ("", base.ansible()["ansible_ssh_extra_args"])
    arguments = arguments[:1] if own else arguments
    become, interpreter = variables.get("ansible_become"), variables.get("ansible_python_interpreter")
    return Login(
        host.name,
        str(first_of(variables, ADDRESS) or host.reach or host.address),
        user=host.user or base.user,
        port=host.port or base.port,
        key=str(first_of(variables, KEY) or base.key or "") or None,
        known_hosts=base.known_hosts if own else None,
        jump=base.jump if own else None,
        arguments=tuple(word for text in arguments for word in shlex.split(text)),
        seconds=base.seconds,
        become=None if become is None else str(become).lower() in ("true", "yes", "1", "on", "y", "t"),
        password=None if password is None else str(password),
        interpreter=None if interpreter is None else str(interpreter),
        inside=host.address,
    )


def login_of_all(ssh: Ssh) -> Login:
    """What the settings say for every host."""
    base = Login("", "", key=ssh.key_file, known_hosts=ssh.known_hosts, seconds=ssh.connect_timeout)
    jump = None
    if ssh.jump:
        user, _, place = ssh.jump.rpartition("@")
        address, _, port = place.partition(":")
        name = f"jump host {ssh.jump}"
        jump = replace(base, host=name, address=address, user=user or None, port=int(port) if port else None)
    return replace(base, user=ssh.user, port=ssh.port, jump=jump)


def control_path(sockets: str) -> str:
    """The sockets in a folder, in OpenSSH's words: one for each user, host, port and jump host."""
    return f"{sockets}/%C"


def logins_at_once(logins: Iterable[Login], most: int) -> int:
    """How many of these logins may be under way at the same time; ``most`` where none goes through a jump host."""
    through = any(login.jump or login.arguments for login in logins)
    return LOGINS_THROUGH_A_JUMP_HOST if through else most


def first_of(variables: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first value that is set."""
    return next((variables[name] for name in names if variables.get(name) not in (None, "")), None)


def python_words(interpreter: str | None) -> str:
    """Words of a POSIX shell that become the host's Python: the inventory's, else a search."""
    if interpreter and not interpreter.startswith("auto"):
        return interpreter
    return '"$(command -v /usr/bin/python3 || command -v python3 || echo python3)"'


def ours(*, forwarding: bool = False) -> list[str]:
    """Options that every connection needs."""
    wanted = ["BatchMode=yes", *known_options(), *ALIVE, *(() if forwarding else (NO_FORWARDING,))]
    return [word for option in wanted for word in ("-o", option)]


@functools.cache
def known_options() -> tuple[str, ...]:
    """Those of QUIET that this machine's OpenSSH knows: older ones have no such thing to switch off.

    Not IgnoreUnknown: ours would take the place of the one in a user's ssh_config.
    """
    return QUIET if knows(*QUIET) else tuple(option for option in QUIET if knows(option))


def knows(*options: str) -> bool:
    """Whether OpenSSH takes all of these options."""
    argv = ["ssh", "-F", "none", "-G", *(word for option in options for word in ("-o", option)), "localhost"]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def expanded(path: str) -> str:
    """A path with ``~`` taken for the home."""
    return str(Path(path).expanduser())


@functools.cache
def configuration(host: str, arguments: tuple[str, ...]) -> dict[str, list[str]]:
    """OpenSSH's own reading of its arguments. Raises UnreachableError."""
    done = subprocess.run(["ssh", "-G", *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-5:]
        message = f"{host}: ssh refuses its options"
        fix = "correct ansible_ssh_common_args in the inventory, or ~/.ssh/config"
        raise UnreachableError("SSH_FAILED", message, host=host, evidence=said, fix=fix)
    options: dict[str, list[str]] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        word, _, value = line.partition(" ")
        options.setdefault(word, []).extend(value.split() if word.endswith("knownhostsfile") else [value])
    return options


def gateway_of(resolved: Mapping[str, list[str]]) -> str | None:
    """The command that leads to the host through its jump hosts; None: there are none."""
    command = resolved.get("proxycommand", ["none"])[0]
    if command != "none":
        # Not left to fabric, which takes %p for 22.
        tokens = {"%h": resolved["hostname"][0], "%p": resolved["port"][0], "%r": resolved["user"][0]}
        return re.sub("%[hpr]", lambda token: tokens[token.group()], command)
    jumps = resolved.get("proxyjump", ["none"])[0]
    if jumps == "none":
        return None
    *before, last = jumps.split(",")
    user, _, place = last.rpartition("@")
    name, _, port = place.removeprefix("ssh://").partition(":")
    argv = ["ssh", *ours(), "-W", f"{resolved['hostname'][0]}:{resolved['port'][0]}"]
    argv += ["-J", ",".join(before)] if before else []
    argv += ["-l", user.removeprefix("ssh://")] if user else []
    argv += ["-p", port] if port else []
    return shlex.join([*argv, name])
