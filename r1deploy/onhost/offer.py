"""Let the other hosts of a cluster read a folder with rsync, for as long as somebody reads what we say.

rsync as a daemon behind our own socket: no port has to be guessed, and who may connect, how many at once and for how
long is ours to say. Its configuration and its password lie in memory that only we see, and that is gone with us, after
a kill -9 too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Any, Collection, Iterable, Iterator, Mapping, NamedTuple, NoReturn

from .private import private_folder
from .saying import TICK, Say

PLACE = "/run/r1deploy"
# One transfer needs one connection. Who has not given the password within seconds does not know it.
AT_ONCE = 8
LOGIN_SECONDS = 10
CONF = """\
use chroot = no
uid = root
gid = root
log file = /dev/null
timeout = 600
[weights]
path = {path}
read only = yes
list = no
auth users = r1deploy
secrets file = {secrets}
hosts allow = {allowed}
"""


class Connection(NamedTuple):
    """A connection: its process, the address that it came from, the time since which it has to log in."""

    process: subprocess.Popen[bytes]
    address: str
    since: float


class Offer:
    """What is offered, and the connections to it."""

    def __init__(self, path: str, addresses: Collection[str], password: str, folder: str) -> None:
        self._inside = os.path.realpath(path)
        self._allowed = addresses
        secrets = write(folder, "secrets", f"r1deploy:{password}\n")
        conf = CONF.format(path=path, secrets=secrets, allowed=" ".join(sorted(addresses)))
        self._conf = write(folder, "rsyncd.conf", conf)
        self._rows: list[Connection] = []

    def take(self, connection: socket.socket, address: str) -> None:
        """Serve a connection; one of another address is closed, and none waits for those that do not log in."""
        if address not in self._allowed:
            return
        self.sweep()
        mine = [row for row in self._rows if row.address == address]
        if len(mine) >= AT_ONCE:
            idle = [row for row in mine if not self._logged_in(row.process)]
            if not idle:
                return
            self._end(idle[0])
        connection.setblocking(True)
        argv = ["rsync", "--daemon", "--no-detach", "--config=" + self._conf]
        handle = connection.fileno()
        process = subprocess.Popen(argv, stdin=handle, stdout=handle, stderr=subprocess.DEVNULL)
        self._rows.append(Connection(process, address, time.monotonic()))

    def sweep(self) -> None:
        """Forget the connections that ended, and end those that take too long to log in."""
        self._rows = [row for row in self._rows if row.process.poll() is None]
        for row in list(self._rows):
            if time.monotonic() - row.since > LOGIN_SECONDS and not self._logged_in(row.process):
                self._end(row)

    def close(self) -> None:
        """End all connections."""
        for row in list(self._rows):
            self._end(row)

    def _logged_in(self, process: subprocess.Popen[bytes]) -> bool:
        """rsync goes into the folder once the password is right, and not before."""
        try:
            return os.readlink(f"/proc/{process.pid}/cwd") == self._inside
        except OSError:
            return False

    def _end(self, row: Connection) -> None:
        self._rows.remove(row)
        row.process.kill()
        row.process.wait()


def write(folder: str, name: str, text: str) -> str:
    """A new file for root alone; its path."""
    path = os.path.join(folder, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    return path


@contextlib.contextmanager
def memory_folder() -> Iterator[str]:
    """A folder in a mount namespace of our own: the kernel takes both away with the last of our processes.

    Without the right to mount it is a folder of root's, which is gone afterwards, but not after a kill -9.
    """
    private_folder(PLACE)
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, recursive_private, detach = 0x00020000, 0x4000 | 0x40000, 2
    if (
        libc.unshare(new_namespace) == 0
        and libc.mount(b"none", b"/", None, recursive_private, None) == 0
        and libc.mount(b"tmpfs", os.fsencode(PLACE), b"tmpfs", 0, b"size=1m,mode=0700") == 0
    ):
        try:
            yield PLACE
        finally:
            libc.umount2(os.fsencode(PLACE), detach)
        return
    folder = tempfile.mkdtemp(prefix="offer-", dir=PLACE)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def addresses_of(names: Iterable[str]) -> set[str]:
    """The IPv4 addresses of hosts; a name that does not resolve has none."""
    addresses: set[str] = set()
    for name in names:
        with contextlib.suppress(OSError):
            addresses |= {str(row[4][0]) for row in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)}
    return addresses


def serve(request: Mapping[str, Any], say: Say) -> None:
    """Offer a folder until ``say`` fails, since nobody reads it any more. It says at which port, and who we are."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with memory_folder() as folder, contextlib.closing(listening):
        addresses = addresses_of(request["allowed"])
        with contextlib.closing(Offer(request["path"], addresses, request["password"], folder)) as offer:
            listening.bind((request["address"], 0))
            listening.listen(16)
            listening.settimeout(TICK)
            say("ready", port=listening.getsockname()[1], process=identity(os.getpid()))
            accept(listening, offer, say)


def accept(listening: socket.socket, offer: Offer, say: Say) -> NoReturn:
    """Serve who connects; twice a second see who ended, and whether anybody still reads us."""
    said = 0.0
    while True:
        if time.monotonic() - said >= TICK:
            said = time.monotonic()
            offer.sweep()
            say("progress", done=0, total=0)
        with contextlib.suppress(socket.timeout):
            connection, place = listening.accept()
            with connection:
                offer.take(connection, place[0])


def identity(pid: int) -> str | None:
    """A process in a word that no later one has: its id and when it began; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:
            return f"{pid} {stream.read().rpartition(')')[2].split()[19]}"
    except OSError:
        return None


def wait_for_end(process: str, seconds: float) -> bool:
    """Wait for the end of the process that ``serve`` named, or end it; whether it had to be ended."""
    pid = int(process.split()[0])
    until = time.monotonic() + seconds
    while identity(pid) == process:
        if time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
            return True
        time.sleep(0.05)
    return False
