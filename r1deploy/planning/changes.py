"""What a step finds on a host: a change, or the reason why there is none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One difference, as a sentence before it is an act."""

    step: str
    host: str
    field: str
    current: str
    desired: str
    reason: str


@dataclass(frozen=True)
class Noop:
    """A step with nothing to do on a host, and why; not ``known``: nobody can say while a host does not answer."""

    step: str
    host: str
    reason: str
    known: bool = True


class Unknown(str):
    """The reason why nobody can say whether there is something to do: what decides it lies on a silent host."""


# A row is a change (field, current, desired, reason) or the reason of a no-op.
Row = tuple[str, str, str, str] | str

# Reasons of changes that the running service does not notice.
UNPAUSED = "unpaused"


def short(value: str | None) -> str:
    """A hash for people: 12 digits; ``absent`` for None."""
    if value is None:
        return "absent"
    return value.removeprefix("sha256:")[:12]


def sha256(text: str) -> str:
    """sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
