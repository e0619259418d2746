"""``diag network``, the end that reaches out: ports, way, delay, clock, throughput and path MTU to each other host."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import statistics
import struct
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

from .children import why
from .pathmtu import by_tcp, known_to_tcp, probed
from .routes import interface_to, mtu_of
from .saying import say
from .wiretalk import (
    CHECK,
    DATA,
    MESSAGE,
    PATIENCE,
    PING,
    SEAL,
    TIMES,
    Until,
    answer_to,
    family_of,
    hello,
    is_address,
    read_whole,
)

CHUNK = 1 << 20
# Seconds: of all small messages; of all probes.
PINGING, PROBING = 1.0, 1.8
UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM)
Order = Mapping[str, Any]
Row = Dict[str, Any]
# (one direction's) result of a port, milliseconds of the connect, what went wrong.
Outcome = Tuple[str, Any, str]


class Stranger(Exception):
    """Who answers at this port does not know our token."""


def connected(address: str, port: int, until: Until) -> socket.socket:
    """A connection; by which way is the kernel's to say. Raises OSError."""
    stream = socket.socket(family_of(address), socket.SOCK_STREAM)
    try:
        stream.settimeout(max(0.001, until.left()))
        stream.connect((address, port))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        stream.close()
        raise
    return stream


def greet(stream: socket.socket, token: bytes, op: bytes, until: Until) -> None:
    """Say what we want. Raises Stranger where the other end is not ours."""
    data = hello(token, op)
    try:
        stream.sendall(data)
        if read_whole(stream, SEAL, until.within(PATIENCE)) != answer_to(token, data):
            raise Stranger("it does not know the token")
    except OSError as error:
        raise Stranger(why(error)) from error


def failure(error: OSError) -> Outcome:
    """How a connect failed."""
    if isinstance(error, (socket.timeout, TimeoutError)) or error.errno == errno.ETIMEDOUT:
        return "timeout", None, ""
    if isinstance(error, ConnectionRefusedError):
        return "refused", None, ""
    if isinstance(error, ConnectionResetError):
        return "reset", None, ""
    named = "unreachable" if error.errno in UNREACHABLE else "failed"
    return named, None, os.strerror(error.errno) if error.errno else why(error)


class Wire:
    """The way to one other host. Each part fails by itself."""

    def __init__(self, order: Order, peer: Row) -> None:
        self._order, self._peer, self._token = order, peer, order["token"].encode()
        self._until = Until(order["pair"])
        self._port = 0

    def rows(self) -> Iterator[Row]:
        """All that is found, part by part; nothing but the ports where none of them is ours."""
        for row in self._ports():
            self._port = self._port or (row["port"] if row["result"] == "open" else 0)
            yield row
        parts: tuple[tuple[str, Callable[[], Row]], ...] = (
            ("route", self._route),
            ("delay", self._delay),
            ("flow", lambda: self._flow(1)),
            ("flow", lambda: self._flow(self._order["streams"])),
            ("path", self._path),
        )
        for kind, part in parts if self._port else parts[:0]:
            yield dict(self._attempt(part), kind=kind)

    def _attempt(self, part: Callable[[], Row]) -> Row:
        if not self._until.left():
            return {"last": "no time was left for it"}
        try:
            return dict(part(), last="")
        except (OSError, Stranger) as error:
            return {"last": why(error)}

    def _ports(self) -> list[Row]:
        ports = self._peer["ports"]
        if not ports:
            return []
        with ThreadPoolExecutor(len(ports)) as at_once:
            found = list(at_once.map(self._try, ports))
        return [
            {"kind": "port", "port": port, "result": result, "ms": ms, "last": last}
            for port, (result, ms, last) in zip(ports, found)
        ]

    def _try(self, port: int) -> Outcome:
        began = time.monotonic()
        try:
            stream = connected(self._peer["address"], port, self._until.within(self._order["connect"]))
        except OSError as error:
            return failure(error)
        spent = round(1000 * (time.monotonic() - began), 3)
        with contextlib.closing(stream):
            try:
                greet(stream, self._token, CHECK, self._until)
            except Stranger as error:
                return "other", spent, str(error)
        return "open", spent, ""

    @contextlib.contextmanager
    def _talking(self, op: bytes) -> Iterator[socket.socket]:
        stream = connected(self._peer["address"], self._port, self._until.within(self._order["connect"]))
        with contextlib.closing(stream):
            greet(stream, self._token, op, self._until)
            yield stream

    def _route(self) -> Row:
        with self._talking(CHECK) as stream:
            source = str(stream.getsockname()[0])
        interface = interface_to(self._peer["address"])
        wanted = {"wanted_source": self._order["source"], "wanted_interface": self._order["interface"]}
        return dict(wanted, source=source, interface=interface, mtu=mtu_of(interface))

    def _delay(self) -> Row:
        """Many small messages, one after the other: the median, and the clock from the quickest of them."""
        samples: list[tuple[float, float]] = []
        with self._talking(PING) as stream:
            over = self._until.within(PINGING)
            while not samples or (over.left() and len(samples) < self._order["pings"]):
                sent, began = time.time(), time.perf_counter()
                stream.sendall(b"\0" * MESSAGE)
                came, went = TIMES.unpack(read_whole(stream, MESSAGE, over.within(PINGING)))
                spent = time.perf_counter() - began
                samples.append((spent, (came + went) / 2 - (sent + spent / 2)))
        least, offset = min(samples)
        median = statistics.median(spent for spent, _ in samples)
        numbers = {"median_ms": round(1000 * median, 4), "least_ms": round(1000 * least, 4), "samples": len(samples)}
        return dict(numbers, offset=round(offset, 6), uncertain=round(least / 2, 6))

    def _flow(self, streams: int) -> Row:
        """Data for a bounded time: what the other end's kernel has taken counts."""
        found: list[tuple[int, float]] = []
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(self._talking(DATA)) for _ in range(streams)]
            over, limit = self._until.within(self._order["flow_seconds"]), self._order["flow_bytes"] // streams
            work = [threading.Thread(target=push, args=(one, over, limit, found), daemon=True) for one in opened]
            for thread in work:
                thread.start()
            for thread in work:
                thread.join()
        size, spent = sum(row[0] for row in found), max((row[1] for row in found), default=0.0)
        if len(found) < streams or size <= 0:
            lost = f"{streams - len(found)} of {streams} streams broke" if size > 0 else "no byte was acknowledged"
            raise ConnectionError(lost)
        gbit = round(8 * size / spent / 1e9, 4)
        return {"streams": streams, "bytes": size, "seconds": round(spent, 4), "gbit": gbit}

    def _path(self) -> Row:
        with self._talking(CHECK) as stream:
            mtu, segment = known_to_tcp(stream)
        own = mtu_of(interface_to(self._peer["address"]))
        by_probes = probed(self._peer, self._token, own, self._until.within(PROBING))
        row = {"tcp_mtu": mtu, "segment": segment, "how": "probes" if by_probes else "tcp", "interface_mtu": own}
        return dict(row, path=by_probes or by_tcp(mtu, segment))


def push(stream: socket.socket, over: Until, limit: int, found: list[tuple[int, float]]) -> None:
    """Send zeros until the time or the bytes are over; what is under way then is thrown away with the connection."""
    data, sent, began = memoryview(bytes(CHUNK)), 0, time.monotonic()
    with contextlib.suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.setblocking(False)
        while sent < limit and over.left():
            if select.select([], [stream], [], over.left())[1]:
                sent += stream.send(data[: min(CHUNK, limit - sent)])
        while over.left() and unacknowledged(stream):
            time.sleep(0.0005)
        found.append((sent - unacknowledged(stream), time.monotonic() - began))


def unacknowledged(stream: socket.socket) -> int:
    """Bytes that were given to the kernel and did not arrive yet."""
    return int(struct.unpack("i", fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, bytes(4)))[0])


def reach(order: Order) -> int:
    """One host after the other, since the wire is measured; the exit code."""
    began = time.monotonic()
    for peer in order["peers"]:
        if not is_address(peer["address"]):
            for port in peer["ports"]:
                say("port", to=peer["name"], port=port, result="failed", ms=None, last="this is no address")
            continue
        for row in Wire(order, peer).rows():
            say(**dict(row, to=peer["name"]))
    say("done", seconds=round(time.monotonic() - began, 1))
    return 0
