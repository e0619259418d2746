"""The hosts of a chain as the controller sees them: who gives to whom, and who has to wait.

A host whose source ends goes on at the one before that, where the bytes that it lacks are still in memory. A host
that finds none waits until the others are done, and then gets the rest from the controller, once for all that wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from r1deploy.cluster.host import Host
from r1deploy.errors import R1Error

# How often a host tries a source that is alive.
TRIES = 2


@dataclass
class Member:
    """A host of a chain. ``source``: who gives to it; ``place``: bytes that it has, as far as it said.

    ``ready``: it listens at ``port``. ``waits``: it has no source, and its load is kept open. ``joining``: it was told
    a source, and gets nothing from it yet. ``settled``: it has all, or ``error`` says why not. ``gone``: it gives
    nothing to others any more. ``refused``: the sources that it could not use. ``wrong``: files that came to
    it with other bytes.
    """

    host: Host
    port: int = 0
    place: int = 0
    turn: int = 0
    tries: int = 0
    wrong: int = 0
    source: Member | None = None
    ready: bool = False
    waits: bool = False
    joining: bool = False
    settled: bool = False
    gone: bool = False
    error: R1Error | None = None
    refused: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The host's name."""
        return self.host.name

    def listens(self, port: int) -> None:
        """It is ready, and waits for a source."""
        self.port, self.ready, self.waits = port, True, True

    def fails(self, error: R1Error) -> None:
        """It ended; what it had before it failed stays."""
        self.error = self.error if self.settled else error
        self.settled = self.gone = True
        self.waits = self.joining = False

    def told(self, source: Member) -> str:
        """A source from now on; the line that tells it."""
        self.tries = self.tries + 1 if source is self.source else 1
        self.source, self.joining, self.waits = source, True, False
        self.turn += 1
        return f"from {self.turn} {source.host.address} {source.port}"

    def stops(self, place: int) -> None:
        """It waits: no other host has what it lacks, or can be reached."""
        if self.source is not None:
            self.refused.add(self.source.name)
        self.source, self.joining, self.waits, self.place = None, False, True, place

    def has(self) -> None:
        """It has all, and its sink took it."""
        self.settled, self.joining, self.waits = True, False, False

    def comes_to(self, place: int) -> None:
        """So much is here: a source that gave something may be tried again."""
        self.tries = 0 if place > self.place else self.tries
        self.place = place


@dataclass
class Chain:
    """All members, in the order in which they pass on."""

    members: Sequence[Member]

    @property
    def over(self) -> bool:
        """Whether all have an end."""
        return all(member.settled for member in self.members)

    @property
    def starting(self) -> bool:
        """Whether one of them is not ready, or still looks for its source."""
        return any(not row.settled and (not row.ready or row.joining) for row in self.members)

    @property
    def stands(self) -> bool:
        """Whether nothing moves: who is not done waits, or gets its bytes from one that waits."""
        left = [row for row in self.members if not row.settled]
        return bool(left) and not self.starting and all(waits(row) for row in left)

    def followers(self, member: Member) -> list[Member]:
        """Those that get their bytes from a member and are not done."""
        return [row for row in self.members if row.source is member and not row.settled]

    def last_after(self, member: Member) -> Member:
        """The end of what hangs on a member."""
        behind = self.followers(member)
        return self.last_after(behind[0]) if behind else member

    def arrange(self, origin: Member | None = None) -> Iterator[tuple[Member, Member | None]]:
        """Who waits, the one that has least first, each with its new source; for the first, None: where all begins.

        In: the host where it begins, None for the controller. Yields nothing where no host can reach it.
        """
        heads = sorted((row for row in self.members if row.waits), key=lambda row: row.place)
        if origin is not None and origin.name in heads[0].refused:
            # Another one takes its place, also one that hangs on it.
            able = (row for row in self.members if not row.settled and origin.name not in row.refused)
            leader = min(able, key=lambda row: row.place, default=None)
            if leader is None:
                return
            leader.source, leader.waits = None, True
            heads = [leader, *(row for row in heads if row is not leader)]
        last: Member | None = None
        for head in heads:
            yield head, last
            last = self.last_after(head)

    def stray(self, fed: Member) -> tuple[Member, Member] | None:
        """Who waits although it did not try the end of what is fed, and that end; None where there is none."""
        last = self.last_after(fed)
        rows = (row for row in self.members if row.waits and row is not fed and last.name not in row.refused)
        return next(((row, last) for row in rows), None)

    def after_loss(self, member: Member) -> Member | None:
        """The source with which a member goes on after it lost its own, or None where there is none."""
        source = member.source
        if source is not None and not source.gone:
            return source if member.tries < TRIES else None
        while source is not None and source.gone:
            source = source.source
        return source


def waits(member: Member | None) -> bool:
    """Whether a member gets nothing before something is arranged for it."""
    while member is not None and not member.waits:
        member = member.source
    return member is not None
