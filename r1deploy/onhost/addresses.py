"""The addresses of this host, and the interface that carries each."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

SIOCGIFCONF = 0x8912
ROOM = 1 << 16
# A row of the answer: a label of 16 bytes, then a sockaddr in a union of two sizes.
ROW = 40 if struct.calcsize("P") == 8 else 32


def own_addresses() -> dict[str, str]:
    """``{address: interface}`` of all addresses, second ones of an interface and IPv6 too. Raises OSError."""
    addresses: dict[str, str] = {}
    room = ctypes.create_string_buffer(ROOM)
    order = struct.pack("iP", ROOM, ctypes.addressof(room))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        used = struct.unpack("iP", fcntl.ioctl(asked.fileno(), SIOCGIFCONF, order))[0]
    for start in range(0, used, ROW):
        label = room.raw[start : start + 16].split(b"\0")[0].decode("utf-8", "replace")
        # A second address may carry a label of its own, such as eth0:1.
        addresses.setdefault(socket.inet_ntoa(room.raw[start + 20 : start + 24]), label.split(":")[0])
    return {**addresses, **_of_ipv6()}


def _of_ipv6() -> dict[str, str]:
    """The IPv6 addresses; none where the kernel has no IPv6."""
    try:
        with open("/proc/net/if_inet6", encoding="utf-8") as stream:
            rows = [line.split() for line in stream]
    except FileNotFoundError:
        return {}
    return {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0])): row[5] for row in rows}


def addresses_of(name: str) -> list[str]:
    """The addresses that a name has here, in the resolver's order; none where it has none."""
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(row[4][0]) for row in rows))
