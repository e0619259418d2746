"""``diag network``, the end that listens: on this host's own address, until its deadline or its reader's end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from typing import Any, Mapping

from .addresses import own_addresses
from .routes import mtu_of
from .saying import say
from .wiretalk import (
    DATA,
    HELLO,
    MESSAGE,
    PATIENCE,
    PING,
    PROBE,
    TIMES,
    Until,
    answer_to,
    family_of,
    op_of,
    read_whole,
)

TICK = 0.1
CHUNK = 1 << 18
BACKLOG = 128
Order = Mapping[str, Any]


class Listening:
    """The sockets of one host, and who is connected to them. More connections than allowed wait in the backlog."""

    def __init__(self, order: Order) -> None:
        self._order, self._token = order, order["token"].encode()
        self._until = Until(order["deadline"])
        self._bound: dict[int, socket.socket] = {}
        self._held: list[dict[str, Any]] = []
        self._probed: socket.socket | None = None
        self._open: dict[socket.socket, threading.Thread] = {}
        self._changing = threading.Lock()
        self.served = self.strangers = 0

    def bind(self) -> dict[str, Any]:
        """Listen on all ports that are free. Returns what is said of it."""
        address = self._order["address"]
        for port in self._order["ports"]:
            try:
                self._bound[port] = self._socket(socket.SOCK_STREAM, port)
                self._bound[port].listen(BACKLOG)
            except OSError as error:
                self._bound.pop(port, None)
                self._held.append({"port": port, "last": os.strerror(error.errno or 0)})
        with contextlib.suppress(OSError):
            self._probed = self._socket(socket.SOCK_DGRAM, self._order["probe_port"])
        interface = own_addresses().get(address, "")
        return {
            "address": address,
            "interface": interface,
            "mtu": mtu_of(interface) if interface else 0,
            "ports": sorted(self._bound),
            "held": self._held,
            "probe_port": self._probed.getsockname()[1] if self._probed else 0,
        }

    def _socket(self, kind: socket.SocketKind, port: int) -> socket.socket:
        """A socket of ours. Raises OSError where the port is somebody else's, or the address not this host's."""
        made = socket.socket(family_of(self._order["address"]), kind)
        try:
            if kind == socket.SOCK_STREAM:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((self._order["address"], port))
        except OSError:
            made.close()
            raise
        made.setblocking(False)
        return made

    def run(self) -> None:
        """Serve until the deadline, or until standard input is closed."""
        while self._until.left():
            asked: list[Any] = [0, *([self._probed] if self._probed else [])]
            if len(self._open) < self._order["connections"]:
                asked += self._bound.values()
            for ready in select.select(asked, [], [], min(TICK, self._until.left()))[0]:
                if ready == 0:
                    if not os.read(0, 1 << 16):
                        return
                elif self._probed and ready is self._probed:
                    self._answer_probe(ready)
                elif len(self._open) < self._order["connections"]:
                    self._accept(ready)

    def close(self) -> None:
        """Nothing listens and nobody is connected any more."""
        for listening in [*self._bound.values(), *([self._probed] if self._probed else [])]:
            listening.close()
        with self._changing:
            left = list(self._open.items())
        for stream, _ in left:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for _, thread in left:
            thread.join(PATIENCE)

    def _answer_probe(self, probed: socket.socket) -> None:
        """A probe of ours that came whole is answered in short; anything else is not."""
        with contextlib.suppress(OSError):
            data, sender = probed.recvfrom(1 << 16)
            if op_of(self._token, data) == PROBE:
                probed.sendto(data[:HELLO] + answer_to(self._token, data), sender)

    def _accept(self, listening: socket.socket) -> None:
        try:
            stream, _ = listening.accept()
        except OSError:
            return
        thread = threading.Thread(target=self._serve, args=(stream,), daemon=True)
        with self._changing:
            self._open[stream] = thread
        thread.start()

    def _serve(self, stream: socket.socket) -> None:
        """One connection, to its end."""
        known = False
        with contextlib.suppress(OSError), stream:
            try:
                # We leave no port in TIME_WAIT: who has to listen there next may not know how to take it then.
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                data = read_whole(stream, HELLO, self._until.within(PATIENCE))
                op = op_of(self._token, data)
                known = bool(op)
                if known:
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    stream.sendall(answer_to(self._token, data))
                    self._work(stream, op)
            finally:
                with self._changing:
                    self._open.pop(stream, None)
                    self.served += known
                    self.strangers += not known

    def _work(self, stream: socket.socket, op: bytes) -> None:
        """What was asked for, until the other end closes."""
        if op == PING:
            while True:
                read_whole(stream, MESSAGE, self._until)
                came = time.time()
                stream.sendall(TIMES.pack(came, time.time()))
        elif op == DATA:
            room, left = bytearray(CHUNK), self._order["bytes"]
            while left > 0:
                stream.settimeout(max(0.001, self._until.left()))
                taken = stream.recv_into(room)
                if not taken:
                    return
                left -= taken
        else:
            stream.settimeout(self._until.within(PATIENCE).left() or TICK)
            stream.recv(1)


def listen(order: Order) -> int:
    """Say on what is listened, serve, say how many came; the exit code."""
    began, listening = time.monotonic(), Listening(order)
    try:
        say("listening", **listening.bind())
        listening.run()
    finally:
        listening.close()
    with contextlib.suppress(OSError):  # who closed our input may not read either
        spent = round(time.monotonic() - began, 1)
        say("done", seconds=spent, served=listening.served, strangers=listening.strangers)
    return 0
