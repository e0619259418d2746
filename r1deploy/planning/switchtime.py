"""How long a switch took, in words."""

from __future__ import annotations

from r1deploy.planning.recorded import Switched
from r1deploy.units import duration

# What the parts of a switch are called for people; the others by their own name.
WORDS = {"ray": "Ray", "failed": "the release that failed"}


def took(switched: Switched) -> str:
    """``the service was away for 18.2 s: stop 1.1, switch 0.9, Ray 3.0, engine 12.3, gate 0.9``."""
    what = "the service was away for" if switched.gap else "the start took"
    long = f" ({duration(switched.seconds)})" if switched.seconds >= 90 else ""
    parts = ", ".join(f"{WORDS.get(part, part)} {seconds:.1f}" for part, seconds in switched.parts.items())
    return f"{what} {switched.seconds:.1f} s{long}{': ' if parts else ''}{parts}"
