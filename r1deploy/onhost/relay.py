"""Receive a stream, hand it to a sink, and pass it on to the next host while it still comes.

The order (JSON): ``op`` receive, ``address`` (ours, for the other hosts), ``allowed`` (names of those that may
connect), ``secret`` of the run, ``size``, ``sha256`` ("" where the sink itself checks what comes), ``room`` (bytes kept
in memory), ``patience`` (seconds), and ``sink``: an engine's, or of files below a root. Then lines on standard input:
``from TURN ADDRESS PORT`` (take the rest there from now on), ``leave TURN`` (the source is gone), ``patience SECONDS``,
``alone`` (nobody takes from here for now), ``feed`` (the rest follows here). Rows: ``ready`` with our port; ``joined``,
``lost`` and ``behind`` with the turn that they are about; ``progress``; one ``done`` or ``error``. It ends with its
standard input, or when nobody reads its rows.
``op`` give is the beginning of a chain: see ``relaysource``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import socket
import sys
import threading
import time
from typing import Any, Callable, Iterator, Mapping

from .filesink import FileSink
from .imagesink import ImageSink
from .relaydoor import Door
from .relaylink import Stranger, joined
from .relayring import Behind, Ring
from .relaysource import Giver
from .saying import TICK, Refusal, say

# The sink gets so much of the end only when the sha256 of all is right.
TAIL = 1 << 20
LONGEST_LINE = 4096
Read = Callable[[memoryview], int]


class Relay:
    """One stream on its way through this host. Its threads tell the main one what happens; only that one speaks."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._order, self._size = order, int(order["size"])
        self._secret = order["secret"].encode()
        tail = TAIL if order["sha256"] else 0
        self._ring = Ring(order["room"], max(0, self._size - tail), order["patience"])
        self._rows: queue.Queue[tuple[str, dict[str, Any]] | Refusal | None] = queue.Queue()
        self._sources: queue.Queue[tuple[int, str, int]] = queue.Queue()
        # Where the sink itself checks what comes, nobody asks for the sum of all.
        self._hash = hashlib.sha256() if order["sha256"] else None
        self._changing = threading.Lock()
        self._before: socket.socket | None = None
        self._next: socket.socket | None = None
        self._began = time.monotonic()

    def run(self) -> int:
        """Do it; the exit code. Raises Refusal, and OSError where nobody reads our rows any more."""
        door, sink = Door(self._order, self._give), self._sink()
        say("ready", port=door.port, size=self._size)
        for work in (door.serve_all, lambda: self._drain(sink), self._from_peers, self._hear):
            threading.Thread(target=self._told, args=(work,), daemon=True).start()
        for row in self._happening():
            if isinstance(row, Refusal):
                sink.abandon()
                raise row
            say(row[0], **row[1])
        return 0

    def _happening(self) -> Iterator[tuple[str, dict[str, Any]] | Refusal]:
        """What happens, until our input ends; how far it is, in between."""
        said = 0.0
        while True:
            if self._ring.late.is_set():
                self._ring.late.clear()
                self._served_is(None)
            if time.monotonic() - said >= TICK:
                said = time.monotonic()
                yield "progress", {"done": self._ring.end, "total": self._size}
            with contextlib.suppress(queue.Empty):
                row = self._rows.get(timeout=TICK / 5)
                if row is None:
                    return
                yield row

    def _told(self, work: Callable[[], None]) -> None:
        """A thread's work; what ends it is told."""
        try:
            work()
        except Refusal as refusal:
            self._rows.put(refusal)
        except Exception as error:  # raised in the main thread
            self._rows.put(Refusal("STEP_FAILED", f"{type(error).__name__}: {error}"))

    def _sink(self) -> ImageSink | FileSink:
        order = self._order["sink"]
        if "root" in order:
            return self._file_sink(order)
        try:
            return ImageSink(order)
        except OSError as error:
            raise Refusal("ENGINE_DOWN", f"the Docker Engine does not answer: {error.strerror or error}") from None

    def _file_sink(self, order: Mapping[str, Any]) -> FileSink:
        sink = FileSink(order)
        if sink.size != self._size:
            raise Refusal("STEP_FAILED", f"the stream has {self._size} bytes, the list says {sink.size}")
        return sink

    # What comes.

    def _hear(self) -> None:
        """Lines on standard input, to its end."""
        with open(0, "rb", buffering=0, closefd=False) as stream:
            while self._obey(stream.readline(LONGEST_LINE).decode().split()):
                pass
        self._rows.put(None)

    def _obey(self, words: list[str]) -> bool:
        """Do what a line says; whether more of them may come."""
        if words[:1] in (["from"], ["leave"]):
            turn, address, port = [*words[1:], "", "0"][:3]
            self._sources.put((int(turn), address, int(port)))
            with self._changing:
                end(self._before)
        elif words[:1] == ["alone"]:
            self._ring.leave()
        elif words[:1] == ["patience"]:
            self._ring.wait_longer(float(words[1]))
        elif words[:1] == ["feed"]:
            self._take(lambda room: os.readv(0, [room]))
            if self._ring.end < self._size:
                return False
            self._judge()
        return bool(words)

    def _from_peers(self) -> None:
        while self._ring.end < self._size:
            turn, place = self._newest()
            try:
                if not place[0]:
                    raise ConnectionError("the host before ended")
                with joined(self._order["address"], place, self._secret, self._ring.end) as stream:
                    self._rows.put(("joined", {"turn": turn}))
                    self._take_from(stream)
                why = "the connection ended"
            except Behind:
                self._rows.put(("behind", {"turn": turn, "place": self._ring.end}))
                continue
            except Stranger:
                why = "it does not know the secret of this run"
            except OSError as error:
                why = error.strerror or str(error)
            if self._ring.end < self._size:
                self._rows.put(("lost", {"turn": turn, "place": self._ring.end, "why": why}))
        self._judge()

    def _newest(self) -> tuple[int, tuple[str, int]]:
        """The source to take from: those that were told before it are no more."""
        row = self._sources.get()
        while not self._sources.empty():
            row = self._sources.get()
        return row[0], row[1:]

    def _take_from(self, stream: socket.socket) -> None:
        with self._changing:
            self._before = stream
            if not self._sources.empty():
                return
        try:
            self._take(stream.recv_into)
        finally:
            with self._changing:
                self._before = None

    def _take(self, read: Read) -> None:
        """Take bytes until all are here, or no more come. Raises OSError."""
        while self._ring.end < self._size:
            room = self._ring.room()[: self._size - self._ring.end]
            count = read(room)
            if not count:
                return
            if self._hash:
                self._hash.update(room[:count])
            self._ring.put(count)

    def _judge(self) -> None:
        """All is here: the sink gets the end of it. Raises Refusal where it is not what was asked for."""
        found, wanted = self._sum(), self._order["sha256"]
        if found != wanted:
            raise Refusal("TARBALL_DAMAGED", f"what arrived has sha256 {found}, r1deploy.lock says {wanted}")
        self._ring.open_end(self._size)

    # What goes.

    def _drain(self, sink: ImageSink | FileSink) -> None:
        """The stream into the sink."""
        left = self._size
        while left:
            data = self._ring.for_sink()
            sink.write(data)
            self._ring.sunk(len(data))
            left -= len(data)
        more = sink.finish()
        seconds = round(time.monotonic() - self._began, 3)
        self._rows.put(("done", {"bytes": self._size, "seconds": seconds, "sha256": self._sum(), **more}))

    def _sum(self) -> str:
        """The sha256 of all, where it was asked for."""
        return self._hash.hexdigest() if self._hash else ""

    def _give(self, stream: socket.socket, place: int) -> Iterator[bytes]:
        """The bytes for a successor, in place of any other. Raises Behind."""
        ticket = self._ring.join(place)
        self._served_is(stream)
        return self._blocks(ticket, place)

    def _blocks(self, ticket: int, place: int) -> Iterator[bytes]:
        while place < self._size:
            data = self._ring.for_next(ticket, place)
            yield data
            place += len(data)

    def _served_is(self, stream: socket.socket | None) -> None:
        """The successor's connection from now on; a former one ends."""
        with self._changing:
            end(self._next)
            self._next = stream


def end(stream: socket.socket | None) -> None:
    """End a connection at which a thread may wait."""
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)


def main(text: str) -> int:
    """Receive, or give; the exit code."""
    order = json.loads(text)
    try:
        return (Giver(order) if order["op"] == "give" else Relay(order)).run()
    except Refusal as refusal:
        with contextlib.suppress(OSError):
            say("error", code=refusal.code, message=str(refusal), tail=refusal.tail)
    except BrokenPipeError:
        # Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            say("error", code="STEP_FAILED", message=str(error), tail=[])
    return 1
