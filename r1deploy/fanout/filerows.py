"""What the scripts around a stream of files say, read once: a line of another shape is none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from r1deploy.fanout.relayrows import Arrived, Refused, Sha256
from r1deploy.planning.border import Count, Part, shaped_by_kind

# A bit a file: so many fit into a line.
Bits = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=60_000)]
Number = Annotated[str, Field(pattern=r"^[0-9]{1,7}$")]


class Listed(Part):
    """What is there: files and their bytes; the list's own size and sum."""

    files: Count
    bytes: Count
    size: Count
    sha256: Sha256


class Prepared(Part):
    """What is lacked: which files, how many and how many bytes; of some, so many bytes are there."""

    lacks: Bits
    starts: Annotated[dict[Number, Count], Field(max_length=1000)]
    files: Count
    bytes: Count


class Forgotten(Part):
    """A list is removed."""


End = Listed | Prepared | Forgotten
ENDS: dict[str, type[End]] = {"list": Listed, "prepare": Prepared, "forget": Forgotten}
FileOp = Literal["list", "prepare", "forget"]


def file_row_of(op: FileOp, line: object) -> End | Arrived | Refused | None:
    """A line as a row, where it has the shape that it must. In: what the script was to do."""
    shapes: dict[str, type[End | Arrived | Refused]] = {"done": ENDS[op], "progress": Arrived, "error": Refused}
    return shaped_by_kind(shapes, line)
