"""The way that the kernel would send to an address: by which interface, with which MTU."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from .wiretalk import family_of

SIOCGIFMTU = 0x8921
RTM_GETROUTE, RTM_NEWROUTE, NLM_F_REQUEST, RTA_DST, RTA_OIF = 26, 24, 1, 1, 4
HEADER, ROUTE, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBBBBBI"), struct.Struct("=HH")


def interface_to(address: str) -> str:
    """The interface by which packets to an address leave. Raises OSError where there is no way."""
    family = family_of(address)
    packed = socket.inet_pton(family, address)
    body = ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    body += ATTRIBUTE.pack(ATTRIBUTE.size + len(packed), RTA_DST) + packed
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asked:
        asked.settimeout(2)
        asked.send(HEADER.pack(HEADER.size + len(body), RTM_GETROUTE, NLM_F_REQUEST, 1, 0) + body)
        said = asked.recv(1 << 16)
    size, kind, _, _, _ = HEADER.unpack_from(said)
    if kind != RTM_NEWROUTE:
        number = -struct.unpack_from("=i", said, HEADER.size)[0]
        raise OSError(number, os.strerror(number))
    at = HEADER.size + ROUTE.size
    while at + ATTRIBUTE.size <= size:
        length, name = ATTRIBUTE.unpack_from(said, at)
        if name == RTA_OIF:
            return socket.if_indextoname(struct.unpack_from("=I", said, at + ATTRIBUTE.size)[0])
        at += max(ATTRIBUTE.size, (length + 3) & ~3)
    return ""


def mtu_of(interface: str) -> int:
    """The MTU of an interface; 0 where there is none of this name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            row = fcntl.ioctl(asked.fileno(), SIOCGIFMTU, struct.pack("16sI12x", interface.encode()[:15], 0))
        except OSError:
            return 0
    return int(struct.unpack_from("16sI", row)[1])
