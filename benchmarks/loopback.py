"""Hosts for the benchmark: sshd processes of its own on loopback addresses, reachable from this machine only."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# sshd takes no more by name.
ADDRESSES_OF_ONE = 16
START_SECONDS = 20


@dataclass(frozen=True)
class Farm:
    """Hosts that answer on one port; the folder holds the user's key and known_hosts."""

    folder: Path
    addresses: tuple[str, ...]
    port: int

    @property
    def key(self) -> Path:
        """The user's key."""
        return self.folder / "user_key"

    @property
    def known_hosts(self) -> Path:
        """The hosts' keys."""
        return self.folder / "known_hosts"

    def ssh(self, address: str, *more: str) -> list[str]:
        """Plain ssh to a host, nothing of a user's ssh_config; the command is to follow."""
        options = ["-F", "none", "-p", str(self.port), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        options += ["-o", f"UserKnownHostsFile={self.known_hosts}", "-i", str(self.key)]
        return ["ssh", *options, *more, f"root@{address}"]


def addresses_of(count: int) -> tuple[str, ...]:
    """So many loopback addresses, which no test uses."""
    return tuple(f"127.81.{number // 200}.{number % 200 + 1}" for number in range(count))


@contextlib.contextmanager
def farm(folder: Path, count: int) -> Iterator[Farm]:
    """Start the hosts, and end them. In: an empty folder. Ends the program where there is no sshd."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if sshd is None:
        sys.exit("no sshd here: apt-get install openssh-server")
    addresses = addresses_of(count)
    made = Farm(folder, addresses, free_port(addresses))
    host_key = new_key(folder / "host_key")
    (folder / "authorized_keys").write_text(new_key(made.key), encoding="utf-8")
    known = "".join(f"[{address}]:{made.port} {host_key}" for address in addresses)
    made.known_hosts.write_text(known, encoding="utf-8")
    # sshd's own rule, where no init system made it.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with contextlib.ExitStack() as running:
        for first in range(0, count, ADDRESSES_OF_ONE):
            part = addresses[first : first + ADDRESSES_OF_ONE]
            running.enter_context(server(sshd, made, part, f"sshd{first // ADDRESSES_OF_ONE}"))
        yield made


def free_port(addresses: Sequence[str]) -> int:
    """A port that is free on all of them now."""
    for _ in range(50):
        with socket.socket() as first:
            first.bind((addresses[0], 0))
            port = int(first.getsockname()[1])
        if all(is_free(address, port) for address in addresses):
            return port
    sys.exit("no port is free on all loopback addresses")


def is_free(address: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as tried:
        try:
            tried.bind((address, port))
        except OSError:
            return False
    return True


def new_key(path: Path) -> str:
    """Make a key pair; returns the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "r1bench", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text(encoding="utf-8")


def configuration(made: Farm, addresses: Sequence[str]) -> str:
    """sshd's configuration: loopback addresses by name, one key, no password."""
    rows = [
        f"Port {made.port}",
        *(f"ListenAddress {address}" for address in addresses),
        f"HostKey {made.folder}/host_key",
        f"AuthorizedKeysFile {made.folder}/authorized_keys",
        "PidFile none",
        # The folder is below the temporary one of this machine, which all may write to.
        "StrictModes no",
        "PasswordAuthentication no",
        "AllowUsers root@127.0.0.0/8",
        "MaxStartups 400",
        "Subsystem sftp internal-sftp",
        # The login's own shell files are no part of what is measured, and some of them take half a second.
        f"SetEnv HOME={made.folder}/home",
    ]
    return "\n".join(rows) + "\n"


@contextlib.contextmanager
def server(sshd: str, made: Farm, addresses: Sequence[str], name: str) -> Iterator[None]:
    """One sshd process, up; it ends with all it started."""
    config, log = made.folder / f"{name}.conf", made.folder / f"{name}.log"
    (made.folder / "home").mkdir(exist_ok=True)
    config.write_text(configuration(made, addresses), encoding="utf-8")
    process = subprocess.Popen([sshd, "-D", "-E", str(log), "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        for address in addresses:
            wait_for(address, made.port, process, log)
        yield
    finally:
        process.terminate()
        process.wait(20)


def wait_for(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until an address answers. Ends the program where it does not."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"sshd does not start:\n{log.read_text(encoding='utf-8') if log.exists() else ''}")
        time.sleep(0.05)


def need_root() -> None:
    """The hosts' user is root, as on a cluster."""
    if os.geteuid():
        sys.exit("the benchmark's sshd and the lab need root: sudo make bench")
