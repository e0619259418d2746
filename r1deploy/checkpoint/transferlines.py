"""What the weights script on a host says, read once: a line of another shape is none."""

from __future__ import annotations

from typing import Any

from r1deploy.planning.border import Count, Name, Part, Seconds, Text, shaped_by_kind
from r1deploy.planning.observed import Weights

Row = dict[str, Any]


class Progress(Part):
    """So many bytes of so many."""

    done: Count
    total: Count


class Note(Part):
    """A word on what goes on."""

    text: Text


class Refused(Part):
    """The script refuses, or a thing of it failed."""

    code: Name
    message: Text
    tail: list[Text]


class Done(Part):
    """The end of any other thing that is done."""


class Looked(Done):
    """``look``: the checkpoint by its headers, what is free, names and sizes of files."""

    weights: Weights
    free: Count
    sizes: dict[Text, Count]
    client: bool | None


class Verified(Done):
    """``verify``: the same, and what the sums say."""

    weights: Weights
    sums: dict[Text, Text]
    differ: list[Text]
    absent: list[Text]
    unlisted: list[Text]
    hashed: Count
    seconds: Seconds
    source: Text | None = None


class Pulled(Done):
    """``pull``: what came."""

    revision: Text
    files: Count
    bytes: Count
    downloaded: Count


class Marked(Done):
    """``mark``: the file that was left, or why there is none."""

    marked: Text | None
    why: Text = ""


class Seen(Done):
    """``seen``: whether that file is here."""

    seen: bool


ENDS: dict[str, type[Part]] = {
    "look": Looked,
    "verify": Verified,
    "pull": Pulled,
    "mark": Marked,
    "seen": Seen,
}
KINDS: dict[str, type[Part]] = {
    "progress": Progress,
    "note": Note,
    "error": Refused,
    "done": Done,
}


def row_of(op: str, line: object) -> Row | None:
    """A line of the script with its kind, where it has the shape that it must; else None. In: what it was to do."""
    row = shaped_by_kind({**KINDS, "done": ENDS.get(op, Done)}, line)
    return {"kind": line["kind"], **row.model_dump(mode="json")} if row and isinstance(line, dict) else None
