"""Bring one stream to many hosts: it goes out once, to the first of them; each passes on what it receives.

It begins here, or on a host that has it (``offering``). Bytes that a host could not get from another one go out a
second time, once for all such hosts: twice at the most.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from r1deploy.ansible.events import Event
from r1deploy.ansible.failures import failure_of
from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, ErrorCode, R1Error, UnreachableError
from r1deploy.fanout.chain import Chain, Member
from r1deploy.fanout.relayrows import Arrived, Behind, Joined, Loaded, Lost, Ready, Refused, RelayRow, relay_row_of
from r1deploy.session import Lines, Session, answer_in
from r1deploy.shipping import Script
from r1deploy.ssh import Login, logins_at_once
from r1deploy.voice import Progress, Say

BLOCK = 1 << 20
# What each host keeps in memory for the next one, in bytes.
ROOM = 32 << 20
# Seconds for which a host waits for a slow one behind it, all in all, and more for each host that follows that one; for
# the hosts that get it in the second go.
PATIENCE, MORE, LONG_PATIENCE = 10.0, 0.5, 86400.0
# A host that says nothing for so many seconds is gone: rows come twice a second.
SILENT_SECONDS = 60
# A link that is closed ends at once; one that is still connecting is not waited for.
END_SECONDS = 1
AT_MOST = 2
# How often, before a go begins, a host that did not reach the one before it tries another one.
DETOURS = 8


class Way(Protocol):
    """What is needed of a link to a host: see ``HostLink``."""

    login: Login

    def module(self, module: Script, order: Mapping[str, Any]) -> Session:
        """Start a module of ``onhost``."""

    def no_answer(self, what: str, code: int, said: str) -> R1Error:
        """A script that ended without its answer."""

    def close(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Load:
    """What is spread: a file of this machine, its size in bytes, its sha256, and what takes it on each host.

    ``origin``: the host where it begins instead, with the ``secret`` of its offer; ``path`` is where it lies there.
    ``own``: what stands otherwise in a host's sink. ``sha256`` is "" where the sinks check what comes. ``what``: it,
    in a word.
    """

    path: Path
    size: int
    sha256: str
    sink: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origin: Member | None = None
    secret: str = ""
    what: str = "image"


@dataclass(frozen=True)
class Told:
    """Who hears of it: sentences, bytes by host. ``check`` is called about once a second, and raises to end it.

    ``settled``: a host's end, as soon as it has come: None where its sink took all, or why it did not.
    """

    say: Say
    progress: Progress
    check: Callable[[], None]
    settled: Callable[[str, R1Error | None], None] = lambda *_: None


def spread(ways: Mapping[str, Way], hosts: Sequence[Host], load: Load, told: Told) -> dict[str, R1Error | None]:
    """Bring a file to hosts, in their order. In: a way to each, by its name.

    Returns by host None where its sink took all, or why it did not. Ends all on the hosts, and closes the ways, also
    where it raises: Stopped, and what ``told.check`` raises.
    """
    return {member.name: member.error for member in spread_to(ways, hosts, load, told)}


def spread_to(ways: Mapping[str, Way], hosts: Sequence[Host], load: Load, told: Told) -> Sequence[Member]:
    """As ``spread``. Returns what is known of each host at the end."""
    spreading = Spreading(ways, hosts, load, told)
    try:
        spreading.run()
    finally:
        spreading.close()
    return spreading.chain.members


class Spreading:
    """One file on its way. Threads read what the hosts say and feed the first; one thread decides."""

    def __init__(self, ways: Mapping[str, Way], hosts: Sequence[Host], load: Load, told: Told) -> None:
        self._ways, self._load, self._told = ways, load, told
        self.chain = Chain([Member(host) for host in hosts])
        self._secret = load.secret or secrets.token_hex(32)
        self._rows: queue.Queue[tuple[Member, RelayRow | R1Error]] = queue.Queue()
        self._sessions: dict[str, Session] = {}
        self._threads = [
            threading.Thread(target=self._listen, args=(member,), daemon=True) for member in self.chain.members
        ]
        self._fed = 0
        self._goes = self._detours = 0
        self._to_feed: Member | None = None
        self._turns = threading.BoundedSemaphore(logins_at_once([way.login for way in ways.values()], len(hosts)))

    def run(self) -> None:
        """Until each host has it or has failed."""
        for thread in self._threads:
            thread.start()
        while not self.chain.over:
            self._told.check()
            try:
                member, row = self._rows.get(timeout=1)
            except queue.Empty:
                continue
            if isinstance(row, R1Error):
                self._lost_host(member, row)
            elif not member.settled:
                self._take(member, row)
            self._go_on()

    def close(self) -> None:
        """End what is on the hosts."""
        for way in self._ways.values():
            way.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(END_SECONDS)

    def _order(self, member: Member) -> dict[str, Any]:
        rows = self.chain.members
        after = len(rows) - 1 - rows.index(member)
        return {
            "op": "receive",
            "address": member.host.address,
            "allowed": [row.host.address for row in rows if row is not member],
            "secret": self._secret,
            "size": self._load.size,
            "sha256": self._load.sha256,
            "room": ROOM,
            "patience": PATIENCE + MORE * after,
            "sink": {**self._load.sink, **self._load.own.get(member.name, {})},
        }

    def _listen(self, member: Member) -> None:
        """Start the relay of a host, and hand on what it says, to its end."""
        way = self._ways[member.name]

        def take(line: str) -> None:
            row = relay_row_of(answer_in(line))
            if row is not None:
                self._rows.put((member, row))

        try:
            with self._turns:
                session = self._sessions[member.name] = way.module("relay", self._order(member))
            session.deadline = time.monotonic() + SILENT_SECONDS
            lines = Lines(take)
            for data in session.read():
                session.deadline = time.monotonic() + SILENT_SECONDS
                lines.write(data)
            raise way.no_answer(self._load.what, session.code(), session.said.text)
        except (R1Error, OSError) as error:
            self._rows.put((member, in_words(member.name, error)))

    # What a host says.

    def _take(self, member: Member, row: RelayRow) -> None:
        if isinstance(row, Ready):
            member.listens(row.port)
        elif isinstance(row, Arrived):
            self._told.progress(member.name, min(row.done, self._load.size), self._load.size)
        elif isinstance(row, Loaded):
            self._finished(member, row)
        elif isinstance(row, Refused):
            self._lost_host(member, self._refusal(member, row))
        elif row.turn == member.turn:
            self._moved(member, row)

    def _moved(self, member: Member, row: Joined | Lost | Behind) -> None:
        """It has its source, or lost it."""
        if isinstance(row, Joined):
            member.joining = False
            return
        member.comes_to(row.place)
        source = self.chain.after_loss(member) if isinstance(row, Lost) else None
        if source is not None:
            self._say_to(member, member.told(source))
            return
        member.stops(row.place)
        why = row.why if isinstance(row, Lost) else "it is too slow for the others"
        if self._to_feed is None:
            self._told.say(f"{member.name}: {why}; it gets the rest when the others are done")

    def _finished(self, member: Member, row: Loaded) -> None:
        if row.sha256 == self._load.sha256 and row.bytes == self._load.size:
            member.has()
            member.wrong = row.wrong
            self._told.progress(member.name, row.bytes, self._load.size)
            self._told.settled(member.name, None)
        else:
            self._lost_host(member, self._damaged(member, f"it says that it took {row.bytes} bytes, {row.sha256}"))

    def _lost_host(self, member: Member, error: R1Error) -> None:
        """A host ended. Who got its bytes there is told where to go on."""
        if not member.settled:
            self._told.say(f"skipped {error.message} ({error.code})")
            self._told.settled(member.name, error)
        member.fails(error)
        self._ways[member.name].close()
        for row in self.chain.followers(member):
            source = self.chain.after_loss(row)
            if source is not None:
                self._say_to(row, row.told(source))
            else:
                row.turn, row.joining = row.turn + 1, True
                self._say_to(row, f"leave {row.turn}")

    def _refusal(self, member: Member, row: Refused) -> ApplyError:
        """What a relay refused, with its cause where what it said has one."""
        return refusal_of(self._load.what, row, self._ways[member.name].login)

    def _damaged(self, member: Member, why: str) -> ApplyError:
        """It is not what it was, or not what was asked for."""
        fix = "run the same command again; if it stays: check memory and disk"
        code = "STEP_FAILED" if self._load.origin else "TARBALL_DAMAGED"
        return ApplyError(code, f"{member.name}: {self._load.what}: {why}", host=member.name, fix=fix)

    def _unreached(self, member: Member) -> ApplyError:
        """No other host could give it the bytes, and they left where they begin twice."""
        message = f"{member.name}: {self._load.what}: no other host could pass it on"
        fix = "open all TCP ports between the hosts' addresses: Ray needs them too"
        return ApplyError("PEER_UNREACHABLE", message, host=member.name, fix=fix)

    # What is done about it.

    def _go_on(self) -> None:
        """Arrange the next go where nothing moves; begin to feed once all that can have joined."""
        if self._to_feed is not None and not self.chain.starting:
            stray = self.chain.stray(self._to_feed) if self._detours else None
            if stray is None or self._to_feed.gone:
                self._feed()
            else:
                self._detours -= 1
                self._say_to(stray[0], stray[0].told(stray[1]))
        elif self._to_feed is None and self.chain.stands:
            self._arrange()

    def _arrange(self) -> None:
        rows = list(self.chain.arrange(self._load.origin))
        first = rows[0][0] if rows else None
        if first is None or self._fed + self._load.size - first.place > AT_MOST * self._load.size:
            for member in self.chain.members:
                if not member.settled:
                    self._lost_host(member, self._unreached(member))
            return
        self._goes += 1
        self._detours = DETOURS
        self._to_feed = first
        for member, source in rows:
            if source is not None:
                self._say_to(member, member.told(source))
        if self._goes > 1:
            for member in self.chain.members:
                if not member.gone:
                    self._say_to(member, f"patience {LONG_PATIENCE:.0f}")
                if not member.gone and not self.chain.followers(member):
                    self._say_to(member, "alone")
        self._go_on()

    def _feed(self) -> None:
        """Send the rest to the one that has least."""
        member, self._to_feed = self._to_feed, None
        if member is not None and not member.gone:
            member.waits = False
            for row in [row for row in self.chain.members if row.waits]:
                sources = ", ".join(sorted(row.refused))
                self._told.say(f"{row.name} does not reach {sources}: it gets it when the others are done")
            if self._load.origin:
                self._fed += self._load.size - member.place
                self._say_to(member, member.told(self._load.origin))
            else:
                threading.Thread(target=self._send, args=(member,), daemon=True).start()

    def _send(self, member: Member) -> None:
        """Feed a host from its place on. What ends its link is told by who listens to it."""
        try:
            self._sessions[member.name].send(b"feed\n")
            with self._load.path.open("rb", buffering=0) as stream:
                stream.seek(member.place)
                left = self._load.size - member.place
                while left:
                    data = stream.read(min(BLOCK, left))
                    if not data:
                        raise self._damaged(member, f"{self._load.path} became shorter")
                    self._sessions[member.name].send(data)
                    self._fed += len(data)
                    left -= len(data)
        except R1Error as error:
            self._rows.put((member, error))
        except OSError as error:
            self._rows.put((member, self._damaged(member, f"{self._load.path}: {error.strerror or error}")))

    def _say_to(self, member: Member, line: str) -> None:
        with contextlib.suppress(R1Error, OSError):  # it ended: who listens to it says so
            self._sessions[member.name].send(f"{line}\n".encode())


def refusal_of(what: str, row: Refused, login: Login) -> ApplyError:
    """What a script on a host refused, with its cause where what it said has one. In: what it is about, in a word."""
    said = {"msg": row.message, "tail": row.tail}
    cause = failure_of(Event("failed", what, "", login.host, said), login)
    code = row.code if cause.code == "STEP_FAILED" and row.code in ErrorCode else cause.code
    message = f"{login.host}: {what}: {cause.message}"
    return ApplyError(code, message, host=login.host, evidence=cause.evidence, fix=cause.fix)


def in_words(host: str, error: R1Error | OSError) -> R1Error:
    """What ended the link to a host."""
    if isinstance(error, R1Error):
        return error
    return UnreachableError("SSH_FAILED", f"{host}: {error}", host=host)
