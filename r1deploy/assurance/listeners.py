"""The end of ``diag network`` that listens on a host, kept alive from here while the others reach it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from r1deploy.assurance.inside import told_last
from r1deploy.assurance.wirejudge import rows_of
from r1deploy.assurance.wirerows import ListeningRow, WireRow, WiresDone, wire_rows_in
from r1deploy.connection import Remote
from r1deploy.errors import R1Error
from r1deploy.onhost.saying import MARK
from r1deploy.session import Lines

# Rows that are kept of a host: it says two. Seconds until it says on what it listens.
MOST, BEGIN = 10, 15.0


class Listener:
    """A host whose ports answer until it is told to end, or until its connection does. ``why``: how it ended."""

    def __init__(self, remote: Remote, order: Mapping[str, Any]) -> None:
        """Begin to listen. Raises UnreachableError, PreflightError."""
        self.why = ""
        self._lines: list[str] = []
        self._said, self._told_to_end = threading.Event(), False
        self._session = remote.module("wires", order)  # its standard input stays open: when that ends, so does it
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        out = Lines(self._take)
        try:
            for data in self._session.read():
                out.write(data)
            self.why = f"it ended with code {self._session.code()}" + told_last(self._session.said.text)
        except R1Error as error:
            self.why = error.message
        finally:
            self._said.set()

    def _take(self, line: str) -> None:
        if line.startswith(MARK):
            if len(self._lines) < MOST:
                self._lines.append(line)
            self._said.set()

    @property
    def rows(self) -> list[WireRow]:
        """What it has said so far."""
        return wire_rows_in(list(self._lines))[0]

    @property
    def row(self) -> ListeningRow | None:
        """On what it listens; None before it has said so."""
        return next(iter(rows_of(self.rows, ListeningRow)), None)

    @property
    def alive(self) -> bool:
        """Whether it still listens, as far as is known here."""
        return self._reading.is_alive()

    def begun(self) -> Listener:
        """Wait until it has said on what it listens, or has ended."""
        self._said.wait(BEGIN)
        return self

    def end(self) -> None:
        """Tell it to end; nobody waits here."""
        self._told_to_end = self.alive
        self._session.finish_input()

    def ended_well(self, seconds: float) -> bool:
        """Wait until it has ended; whether it listened until it was told to end."""
        self._reading.join(seconds)
        return self._told_to_end and bool(rows_of(self.rows, WiresDone))

    def close(self) -> None:
        """End its channel: then it ends on the host too."""
        self._session.close()
