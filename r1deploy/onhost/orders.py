"""What the parts of ``diag`` on a host are told, with what holds where nothing is said."""

from __future__ import annotations

import json
from typing import Any, Mapping

_COMMON = {"flaggems": False, "unused": (), "device": "cuda"}
KERNELS: Mapping[str, Any] = {
    **_COMMON, "chips": 1, "jobs": 4, "deadline": 90.0, "tokens": (1, 1009, 8192), "only": (),
}  # fmt: skip
FORWARD: Mapping[str, Any] = {**_COMMON, "deadline": 120.0, "prompt": 48, "greedy": 16}
CHIPS: Mapping[str, Any] = {
    "device": "cuda", "chips": 0, "deadline": 90.0, "share": 0.9, "memory_seconds": 20.0, "side": 2048, "speed": 8192,
    "copy": 1 << 30,
}  # fmt: skip


def order_of(defaults: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The whole order. Raises ValueError where something is asked for that is not known."""
    asked = json.loads(text)
    unknown = sorted(set(asked) - set(defaults))
    if unknown:
        raise ValueError(f"unknown in an order: {', '.join(unknown)}")
    return {**defaults, **asked}
