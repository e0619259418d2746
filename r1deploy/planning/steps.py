"""The steps, in the order in which they run: step = group = role = variable prefix = test."""

from __future__ import annotations

STEPS: tuple[str, ...] = (
    "host",
    "image",
    "container",
    "sources",
    "patch",
    "vllm",
    "install",
    "trust",
    "config",
)
