"""What the parts of ``diag`` on a host are told, with what holds where nothing is said."""

from __future__ import annotations

import json
from typing import Any, Mapping

_COMMON = {"flaggems": False, "unused": (), "device": "cuda"}
# ``jobs`` 0: by the cores of the host.
KERNELS: Mapping[str, Any] = {
    **_COMMON, "chips": 1, "jobs": 0, "deadline": 90.0, "tokens": (1, 1009, 8192), "only": (),
}  # fmt: skip
FORWARD: Mapping[str, Any] = {**_COMMON, "deadline": 120.0, "prompt": 48, "greedy": 16}
CHIPS: Mapping[str, Any] = {
    "device": "cuda", "chips": 0, "deadline": 90.0, "share": 0.9, "memory_seconds": 20.0, "side": 2048, "speed": 8192,
    "copy": 1 << 30,
}  # fmt: skip
# ``token``: who does not know it is a stranger. ``probe_port``: of UDP; 0 lets the kernel choose one.
LISTEN: Mapping[str, Any] = {
    "op": "listen", "token": "", "address": "", "ports": (), "probe_port": 0, "deadline": 120.0, "connections": 64,
    "bytes": 4 << 30,
}  # fmt: skip
# ``peers``: name, address, ports, probe_port each. ``pair``: seconds for one of them, all in all.
REACH: Mapping[str, Any] = {
    "op": "reach", "token": "", "peers": (), "source": "", "interface": "", "connect": 2.5, "pair": 8.0, "pings": 200,
    "streams": 8, "flow_seconds": 0.7, "flow_bytes": 2 << 30,
}  # fmt: skip
# ``ranks`` of this host, one a chip in their order; ``names`` of all ranks; ``wait``: seconds for those to come.
COLLECTIVES: Mapping[str, Any] = {
    "backend": "gloo", "device": "cpu", "address": "", "port": 0, "ranks": (0,), "names": (), "wait": 20.0,
    "deadline": 60.0, "sizes": (1 << 10, 1 << 20, 1 << 28), "repeats": 3,
}  # fmt: skip


def order_of(defaults: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The whole order. Raises ValueError where something is asked for that is not known."""
    asked = json.loads(text)
    unknown = sorted(set(asked) - set(defaults))
    if unknown:
        raise ValueError(f"unknown in an order: {', '.join(unknown)}")
    return {**defaults, **asked}
