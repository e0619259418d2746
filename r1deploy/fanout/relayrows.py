"""What a relay on a host says, read once: a line of another shape is none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from r1deploy.planning.border import Count, Name, Part, Port, Seconds, Text, shaped_by_kind

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Ready(Part):
    """It listens for the next host. ``size``: bytes of the stream."""

    port: Port
    size: Count = 0


class Joined(Part):
    """The bytes of a source begin to come. ``turn``: which source of those it was told."""

    turn: Count


class Lost(Part):
    """A source gives no more, and ``place`` bytes are here."""

    turn: Count
    place: Count
    why: Text


class Behind(Part):
    """A source no longer has what comes after ``place``."""

    turn: Count
    place: Count


class Arrived(Part):
    """So many bytes of so many are here."""

    done: Count
    total: Count


class Loaded(Part):
    """All is here, and the sink took it. ``wrong``: files that came with other bytes.

    ``sha256``: "" where the sink knows those of its files.
    """

    bytes: Count
    seconds: Seconds
    sha256: Sha256 | Literal[""]
    wrong: Count = 0


class Refused(Part):
    """The end of it, and why."""

    code: Name
    message: Text
    tail: list[Text]


RelayRow = Ready | Joined | Lost | Behind | Arrived | Loaded | Refused
KINDS: dict[str, type[RelayRow]] = {
    "ready": Ready,
    "joined": Joined,
    "lost": Lost,
    "behind": Behind,
    "progress": Arrived,
    "done": Loaded,
    "error": Refused,
}


def relay_row_of(line: object) -> RelayRow | None:
    """A line as a row, where it has the shape that it must."""
    return shaped_by_kind(KINDS, line)
