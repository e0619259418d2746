"""The beginning of a chain on a host that has the files: it reads them from its disk, from any place on.

The order (JSON): ``op`` give, ``address``, ``allowed`` and ``secret`` as of a relay; ``root``, the list and its stream
(``filelist``). Rows: ``ready`` with the port and the stream's size; ``progress``; ``error``. It ends with its standard
input, or when nobody reads its rows.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from typing import Any, Iterator, Mapping

from .filelist import Reading, pieces_of
from .relaydoor import Door
from .relayring import Behind
from .saying import TICK, Refusal, say


class Giver:
    """One stream that begins here."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._reading = Reading(order["root"], pieces_of(order))
        self._door = Door(order, self._give)
        self._ends: queue.Queue[Refusal | None] = queue.Queue()
        self._given = 0

    def run(self) -> int:
        """Give until our input ends; the exit code. Raises Refusal, OSError where nobody reads our rows any more."""
        say("ready", port=self._door.port, size=self._reading.size)
        for work in (self._door.serve_all, self._hear):
            threading.Thread(target=work, daemon=True).start()
        while True:
            try:
                refusal = self._ends.get(timeout=TICK)
            except queue.Empty:
                say("progress", done=self._given, total=self._reading.size)
                continue
            if refusal is None:
                return 0
            raise refusal

    def _hear(self) -> None:
        while os.read(0, 4096):
            pass
        self._ends.put(None)

    def _give(self, _: socket.socket, place: int) -> Iterator[bytes]:
        if place >= self._reading.size:
            raise Behind
        return self._blocks(place)

    def _blocks(self, place: int) -> Iterator[bytes]:
        try:
            for data in self._reading.blocks(place):
                yield data
                place += len(data)
                self._given = max(self._given, place)
        except Refusal as refusal:
            self._ends.put(refusal)
