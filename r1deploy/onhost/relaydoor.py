"""Where other hosts take a stream: a port on this host's address, for those only that know the secret of the run."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any, Callable, Iterator, Mapping

from .addresses import addresses_of
from .relaylink import GOES_ON, TOO_LATE, Stranger, answer, asked
from .relayring import Behind
from .saying import Refusal
from .wiretalk import family_of

# Connections that did not prove anything yet.
AT_ONCE = 16
# The connection and a place → the bytes from there on. Raises Behind.
Give = Callable[[socket.socket, int], Iterator[bytes]]


class Door:
    """It listens once it is made. In: ``address``, ``allowed`` and ``secret`` of an order. Raises Refusal."""

    def __init__(self, order: Mapping[str, Any], give: Give) -> None:
        self._order, self._give = order, give
        self._secret = order["secret"].encode()
        own = order["address"]
        self._listening = socket.socket(family_of(own), socket.SOCK_STREAM)
        try:
            self._listening.bind((own, 0))
            self._listening.listen(AT_ONCE)
        except OSError as error:
            raise Refusal("PEER_UNREACHABLE", f"cannot listen on {own}: {error.strerror}") from None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getsockname()[1])

    def serve_all(self) -> None:
        """Who connects: only the other hosts, each in a thread of its own."""
        allowed = {address for name in self._order["allowed"] for address in addresses_of(name)}
        open_ones = threading.BoundedSemaphore(AT_ONCE)
        while True:
            stream, place = self._listening.accept()
            if place[0] not in allowed or not open_ones.acquire(blocking=False):
                stream.close()
                continue
            threading.Thread(target=self._serve, args=(stream, open_ones), daemon=True).start()

    def _serve(self, stream: socket.socket, open_ones: threading.BoundedSemaphore) -> None:
        with contextlib.suppress(OSError, Stranger, Behind), stream:
            try:
                place, proved = asked(stream, self._secret)
            finally:
                open_ones.release()
            try:
                blocks = self._give(stream, place)
            except Behind:
                answer(stream, self._secret, proved, TOO_LATE)
                raise
            answer(stream, self._secret, proved, GOES_ON)
            for data in blocks:
                stream.sendall(data)
