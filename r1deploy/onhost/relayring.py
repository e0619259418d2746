"""The last bytes of a stream, in memory: one writes, the sink reads all of it, one successor may fall behind."""

from __future__ import annotations

import threading
import time

# What is written, and read, at a time.
BLOCK = 1 << 18
# How often the time of a wait is counted.
LOOK_SECONDS = 0.1


class Behind(Exception):
    """A place of the stream that is no longer in memory, or that another reader has taken over."""


class Ring:
    """Bytes ``start`` to ``end`` of a stream; never more than ``capacity`` of them.

    The sink holds the writer as long as it likes. The successor does so for ``patience`` seconds, also while it is
    away; then it is let go, and ``late`` is set. Only time counts for which the sink has all and waits too, and time
    without such a wait pays it back: who goes is one that makes the others wait for more than half of the time. The
    sink gets nothing from ``limit`` on.
    """

    def __init__(self, capacity: int, limit: int, patience: float) -> None:
        self.start = self.end = 0
        self.late = threading.Event()
        self._data = bytearray(capacity)
        self._changed = threading.Condition()
        self._limit, self._patience = limit, patience
        self._sunk = 0
        self._next: int | None = None
        self._ticket = 0
        self._held, self._holds, self._looked = 0.0, False, time.monotonic()

    def room(self) -> memoryview:
        """Memory for what comes next, at least one byte; waits until nobody needs it any more."""
        place = self.end % len(self._data)
        count = min(BLOCK, len(self._data) - place)
        with self._changed:
            while not self._free(self.end + count - len(self._data)):
                pass
        return memoryview(self._data)[place : place + count]

    def _free(self, before: int) -> bool:
        """Whether nobody needs what lies before a place; else it has waited for a change."""
        self._count()
        behind = self._next is not None and self._next < before
        self._holds = behind and self._sunk >= min(self.end, self._limit)
        if self._holds and self._held >= self._patience:
            self._let_go()
        elif behind or self._sunk < before:
            self._changed.wait(LOOK_SECONDS)
        else:
            self.start = max(self.start, before)
            return True
        return False

    def _count(self) -> None:
        """Add the time for which the successor held the writer, or pay it back."""
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        self._held = max(0.0, self._held + (passed if self._holds else -passed))

    def _let_go(self) -> None:
        self._next, self._held = None, 0.0
        self._ticket += 1
        self.late.set()

    def leave(self) -> None:
        """The successor, if there is one, goes on elsewhere: nobody waits for it."""
        with self._changed:
            self._let_go()
            self._changed.notify_all()

    def put(self, count: int) -> None:
        """So many bytes of the room are written."""
        with self._changed:
            self.end += count
            self._changed.notify_all()

    def wait_longer(self, patience: float) -> None:
        """The successor may hold the writer for so many seconds from now on."""
        with self._changed:
            self._patience, self._held = patience, 0.0
            self._changed.notify_all()

    def open_end(self, limit: int) -> None:
        """The sink may have all before ``limit``."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    def for_sink(self) -> bytes:
        """What the sink gets next; waits for it."""
        with self._changed:
            while min(self.end, self._limit) <= self._sunk:
                self._changed.wait()
            return self._part(self._sunk, min(self.end, self._limit))

    def sunk(self, count: int) -> None:
        """The sink has taken so many bytes."""
        with self._changed:
            self._sunk += count
            self._changed.notify_all()

    def join(self, place: int) -> int:
        """A successor goes on at a place, in place of any other; its ticket. It may be ahead of us. Raises Behind."""
        with self._changed:
            if place < self.start:
                raise Behind
            self._ticket += 1
            self._next = place
            self._changed.notify_all()
            return self._ticket

    def for_next(self, ticket: int, place: int) -> bytes:
        """What the successor gets from a place on, which says that it has all before. Raises Behind."""
        with self._changed:
            self._own(ticket)
            self._next = place
            self._changed.notify_all()
            while self.end <= place:
                self._changed.wait()
                self._own(ticket)
            return self._part(place, self.end)

    def _own(self, ticket: int) -> None:
        if ticket != self._ticket:
            raise Behind

    def _part(self, place: int, until: int) -> bytes:
        """One piece from a place on. A copy: what is sent late must not change under the sender."""
        first = place % len(self._data)
        count = min(BLOCK, until - place, len(self._data) - first)
        return bytes(memoryview(self._data)[first : first + count])
