"""Bytes and seconds in words."""

from __future__ import annotations


def size_of(count: int) -> str:
    """Bytes in words: ``625.0 GiB``."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def duration(seconds: float) -> str:
    """Seconds in words: ``40 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def age(seconds: float) -> str:
    """Seconds since something, in words: as ``duration``, and ``3 days`` where it was two days or more ago."""
    days = int(seconds // 86_400)
    return f"{days} days" if days > 1 else duration(seconds)
