"""The largest packet that gets to another host whole: as TCP knows it, and as probes that no router may split find it.

Probing needs no rights: UDP with "do not fragment", of which the other end says in short which came.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Any

from .wiretalk import HELLO, PROBE, Until, answer_to, hello

# As in <linux/in.h>; Python 3.8 has no names for them.
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, IP_MTU, IPV6_MTU = 10, 3, 14, 24
HEADERS, LEAST, MOST = 28, 576, 65535
USUAL = (576, 1280, 1400, 1420, 1450, 1472, 1480, 1492, 1500, 4096, 8950, 8972, 9000, 9216)
AT_ONCE, ROUND, PAUSE = 24, 0.15, 0.001
# Up to here no window bounds what TCP takes for a segment; then its options are these bytes at the most.
JUMBO, OPTIONS = 16384, 52


def known_to_tcp(stream: socket.socket) -> tuple[int, int]:
    """(the path's MTU, the segment's size) of a connection, 0 where the kernel does not say."""
    found = []
    is_six = stream.family == socket.AF_INET6
    path = (socket.IPPROTO_IPV6, IPV6_MTU) if is_six else (socket.IPPROTO_IP, IP_MTU)
    for level, name in (path, (socket.IPPROTO_TCP, socket.TCP_MAXSEG)):
        try:
            found.append(stream.getsockopt(level, name))
        except OSError:
            found.append(0)
    return found[0], found[1]


def by_tcp(mtu: int, segment: int) -> int:
    """What TCP's numbers say of the path: the other end may take less than the way does."""
    return min(mtu, segment + OPTIONS) if segment and 0 < mtu <= JUMBO else mtu


class Prober:
    """Probes of many sizes to one address and port."""

    def __init__(self, address: str, port: int, token: bytes) -> None:
        self._token = token
        self._stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._stream.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        self._stream.setblocking(False)
        self._stream.connect((address, port))

    def close(self) -> None:
        self._stream.close()

    def came(self, sizes: list[int], until: Until) -> list[int]:
        """Which of these sizes the other end got, each sent twice where the first did not come."""
        waiting: dict[bytes, int] = {}
        came: set[int] = set()
        for _ in range(2):
            for size in sorted(set(sizes) - came):
                data = hello(self._token, PROBE)
                waiting[answer_to(self._token, data)] = size
                with contextlib.suppress(OSError):  # larger than the interface takes, or nobody listens
                    self._stream.send(data.ljust(size - HEADERS, b"\0"))
                self._hear(waiting, came, PAUSE)
            over = until.within(ROUND)
            while over.left() and came != set(sizes):
                self._hear(waiting, came, over.left())
        return sorted(came)

    def _hear(self, waiting: dict[bytes, int], came: set[int], seconds: float) -> None:
        began = time.monotonic()
        if not select.select([self._stream], [], [], seconds)[0]:
            return
        try:
            said = self._stream.recv(1 << 10)
        except OSError:  # what was refused is told once; a pause, so that nobody spins
            time.sleep(max(0.0, min(PAUSE, seconds - (time.monotonic() - began))))
            return
        size = waiting.pop(said[HELLO:], 0)
        if size:
            came.add(size)


def search(prober: Prober, most: int, until: Until) -> int:
    """The largest size up to ``most`` that comes; 0 where not even small ones do, or time was too short to tell."""
    most = min(most, MOST)
    if not prober.came([LEAST], until):
        return 0
    low, high = LEAST, most + 1
    tried = sorted({size for size in USUAL if LEAST < size < most} | {most})
    while tried and until.left():
        low = max([low, *prober.came(tried, until)])
        high = min([high, *(size for size in tried if size > low)])
        step = max(1, -(-(high - low) // AT_ONCE))
        tried = list(range(low + step, high, step))
    if low < most and prober.came([most], until):  # what was lost by chance is no border
        return most
    return low if until.left() or low == most else 0


def probed(peer: dict[str, Any], token: bytes, most: int, until: Until) -> int:
    """What probes say of the path to a peer; 0 where no UDP comes through, or there is none to probe."""
    if not peer["probe_port"] or ":" in peer["address"] or not most:
        return 0
    try:
        prober = Prober(peer["address"], peer["probe_port"], token)
    except OSError:
        return 0
    with contextlib.closing(prober):
        return search(prober, most, until)
