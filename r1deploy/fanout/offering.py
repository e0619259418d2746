"""The host on which a stream begins: it reads its own disk, and gives to the hosts that the controller sends to it."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r1deploy.cluster.host import Host
from r1deploy.errors import R1Error
from r1deploy.fanout.chain import Member
from r1deploy.fanout.relayrows import Ready, Refused, relay_row_of
from r1deploy.fanout.spreading import END_SECONDS, SILENT_SECONDS, Way, in_words, refusal_of
from r1deploy.session import Lines, Session, answer_in


class Offer:
    """A stream that a host gives. ``member``: the host, with the port at which it listens."""

    def __init__(self, way: Way, host: Host, what: str) -> None:
        self.member, self.secret, self.size = Member(host), secrets.token_hex(32), 0
        self._way, self._what = way, what
        self._rows: queue.Queue[Ready | R1Error] = queue.Queue()
        self._error: R1Error | None = None

    def check(self) -> None:
        """Raises what ended it: R1Error."""
        if self._error:
            raise self._error

    def begin(self, targets: Sequence[Host], order: Mapping[str, Any]) -> threading.Thread:
        """Start it, and wait until it listens. Raises R1Error."""
        allowed = [host.address for host in targets]
        given = {"op": "give", "address": self.member.host.address, "allowed": allowed, "secret": self.secret, **order}
        thread = threading.Thread(target=self._listen, args=(given,), daemon=True)
        thread.start()
        row = self._rows.get()
        if isinstance(row, R1Error):
            raise row
        self.member.listens(row.port)
        self.member.has()
        self.size = row.size
        return thread

    def _listen(self, order: Mapping[str, Any]) -> None:
        try:
            self._hear(self._way.module("relay", order))
        except (R1Error, OSError) as error:
            self._error = in_words(self.member.name, error)
            self._rows.put(self._error)

    def _hear(self, session: Session) -> None:
        """What it says, to its end. Raises R1Error."""

        def take(line: str) -> None:
            row = relay_row_of(answer_in(line))
            if isinstance(row, Refused):
                raise refusal_of(self._what, row, self._way.login)
            if isinstance(row, Ready):
                self._rows.put(row)

        session.deadline = time.monotonic() + SILENT_SECONDS
        lines = Lines(take)
        for data in session.read():
            session.deadline = time.monotonic() + SILENT_SECONDS
            lines.write(data)
        raise self._way.no_answer(self._what, session.code(), session.said.text)


@contextlib.contextmanager
def offered(way: Way, host: Host, targets: Sequence[Host], order: Mapping[str, Any], what: str) -> Iterator[Offer]:
    """A host gives a stream to others for as long as this lasts. Raises R1Error. In: what it is, in a word."""
    offer, thread = Offer(way, host, what), None
    try:
        thread = offer.begin(targets, order)
        yield offer
    finally:
        way.close()
        if thread:
            thread.join(END_SECONDS)
