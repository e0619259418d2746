"""What the two ends of a wire say to each other: a hello that only a run's token can make, and small fixed messages.

The token itself never crosses the network: a hello is a random number and its seal.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import time

MAGIC = b"r1wire1\n"
# Only the port; small messages, which are answered with two times; data, which nobody reads.
CHECK, PING, DATA, PROBE = b"c", b"p", b"d", b"u"
NONCE, SEAL = 16, 32
HELLO = len(MAGIC) + 1 + NONCE + SEAL
# Seconds within which a hello and its answer come.
PATIENCE = 1.0
MESSAGE = 64
TIMES = struct.Struct(">dd48x")


class Until:
    """A point in time, and what is left until then."""

    def __init__(self, seconds: float) -> None:
        self.when = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, never under 0."""
        return max(0.0, self.when - time.monotonic())

    def within(self, seconds: float) -> Until:
        """The nearer of this and so many seconds from now."""
        return Until(min(seconds, self.left()))


def family_of(address: str) -> socket.AddressFamily:
    """IPv6 where it has a colon."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def is_address(text: str) -> bool:
    """Whether it is an address, so that no resolver is asked."""
    try:
        socket.inet_pton(family_of(text), text)
    except (OSError, ValueError):
        return False
    return True


def seal(token: bytes, *parts: bytes) -> bytes:
    """What only somebody who knows the token can make of the parts."""
    return hmac.new(token, b"".join(parts), hashlib.sha256).digest()


def hello(token: bytes, op: bytes) -> bytes:
    """A new hello."""
    nonce = os.urandom(NONCE)
    return MAGIC + op + nonce + seal(token, MAGIC, op, nonce)


def op_of(token: bytes, data: bytes) -> bytes:
    """What a hello asks for; nothing where it is a stranger's."""
    body, mark = data[: HELLO - SEAL], data[HELLO - SEAL : HELLO]
    if not data.startswith(MAGIC) or not hmac.compare_digest(mark, seal(token, body)):
        return b""
    return data[len(MAGIC) : len(MAGIC) + 1]


def nonce_of(data: bytes) -> bytes:
    """The random number of a hello."""
    return data[len(MAGIC) + 1 : len(MAGIC) + 1 + NONCE]


def answer_to(token: bytes, data: bytes) -> bytes:
    """The answer to a hello: it shows that the token is known here too."""
    return seal(token, b"answer", nonce_of(data))


def read_whole(stream: socket.socket, size: int, until: Until) -> bytes:
    """So many bytes. Raises socket.timeout after that time, ConnectionError where the other end is gone."""
    data = b""
    while len(data) < size:
        left = until.left()
        if not left:
            raise socket.timeout("timed out")
        stream.settimeout(left)
        more = stream.recv(size - len(data))
        if not more:
            raise ConnectionResetError("the other end closed it")
        data += more
    return data
