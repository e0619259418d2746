"""Between two hosts of a chain: both prove that they know the run's secret, then bytes go one way.

The secret itself never crosses the network. The listener speaks first: MAGIC and a number; the successor answers with
a number of its own, the place from which it wants the bytes, and the seal of all; the listener with its seal, which
says too whether it has that place. Then come the bytes, to the end of the stream.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct

from .relayring import Behind
from .wiretalk import Until, family_of, read_whole, seal

MAGIC = b"r1relay1"
NONCE, SEAL = 16, 32
PLACE = struct.Struct(">Q")
GOES_ON, TOO_LATE = b"+", b"-"
# Seconds for a connection and the proofs.
PATIENCE = 10.0
# Milliseconds after which a successor that takes nothing is gone.
STUCK = 120_000


class Stranger(Exception):
    """The other end does not know the secret."""


def asked(stream: socket.socket, secret: bytes) -> tuple[int, bytes]:
    """The listener's part: the place that a successor asks for, and what to seal. Raises OSError, Stranger."""
    until, mine = Until(PATIENCE), os.urandom(NONCE)
    stream.settimeout(PATIENCE)
    stream.sendall(MAGIC + mine)
    said = read_whole(stream, NONCE + PLACE.size + SEAL, until)
    proved, mark = said[:-SEAL], said[-SEAL:]
    if not hmac.compare_digest(mark, seal(secret, b"next", mine, proved)):
        raise Stranger
    return PLACE.unpack(proved[NONCE:])[0], mine + proved


def answer(stream: socket.socket, secret: bytes, proved: bytes, word: bytes) -> None:
    """The listener's proof, and whether bytes follow."""
    stream.sendall(word + seal(secret, b"before", word, proved))
    stream.settimeout(None)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK)


def joined(own: str, place: tuple[str, int], secret: bytes, start: int) -> socket.socket:
    """The successor's part: a connection on which the bytes from ``start`` on come.

    In: our address, the address and port of the host before. Raises OSError, Stranger, Behind.
    """
    until = Until(PATIENCE)
    stream = socket.socket(family_of(place[0]), socket.SOCK_STREAM)
    try:
        stream.settimeout(PATIENCE)
        stream.bind((own, 0))
        stream.connect(place)
        said = read_whole(stream, len(MAGIC) + NONCE, until)
        if not said.startswith(MAGIC):
            raise Stranger
        proved = os.urandom(NONCE) + PLACE.pack(start)
        theirs = said[len(MAGIC) :]
        stream.sendall(proved + seal(secret, b"next", theirs, proved))
        back = read_whole(stream, 1 + SEAL, until)
        if not hmac.compare_digest(back[1:], seal(secret, b"before", back[:1], theirs, proved)):
            raise Stranger
        if back[:1] != GOES_ON:
            raise Behind
        stream.settimeout(None)
    except BaseException:
        stream.close()
        raise
    return stream
