"""One work of ``diag`` in the container of a host: its rows as they come, and why it is not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from r1deploy.assurance.diagrows import Done, Row, Said, rows_in
from r1deploy.assurance.inside import Place, Work, work_inside
from r1deploy.assurance.kerneljudge import of_kind
from r1deploy.connection import Remote, on_each
from r1deploy.errors import R1Error
from r1deploy.observe.view import View
from r1deploy.run import Run

# What a host does now, for the row of it on a terminal: its name, then ``what it is at: how far it is``.
Heard = Callable[[str, str], None]
T = TypeVar("T")
# Rows of one work: the operators at a hundred sizes have less.
MOST_ROWS = 10_000
MISSING = "No module named 'torch'"
NO_TORCH = f"the image has no PyTorch ({MISSING})"


class TooMuch(Exception):
    """A host says more rows than there can be."""


@dataclass(frozen=True)
class Site:
    """Where a part works: a host and the container there; ``heard`` takes what it does."""

    remote: Remote
    place: Place
    heard: Heard

    def tell(self, words: str) -> None:
        """Say what this host does."""
        self.heard(self.remote.name, words)


def at_once(run: Run, view: View, sites: tuple[Mapping[str, Place], Heard], do: Callable[[Site], T]) -> dict[str, T]:
    """Do something on all hosts at once; by host. In: their places, and who hears what they do."""
    places, heard = sites
    remotes = [run.remote(view, name) for name in places]
    found = on_each(remotes, lambda remote: do(Site(remote, places[remote.name], heard)))
    return dict(zip(places, found, strict=True))


def said_by(site: Site, work: Work, take: Callable[[Row], None]) -> Said:
    """Run one work to its end, its deadline or the end of the link. ``take`` hears each row, and may raise."""
    rows: list[Row] = []
    refused = 0

    def line(text: str) -> None:
        nonlocal refused
        found, bad = rows_in([text])
        if len(rows) + len(found) > MOST_ROWS:
            raise TooMuch
        refused += bad
        for row in found:
            rows.append(row)
            take(row)

    try:
        heard = work_inside(site.remote, site.place, work, line)
    except TooMuch:
        return Said(tuple(rows), f"it was ended: it said more than {MOST_ROWS} rows", over=True)
    except R1Error as error:
        return Said(tuple(rows), f"interrupted: {error.message}", over=True)
    last = _why(rows, refused, heard.last)
    return Said(tuple(rows), last, over=last == NO_TORCH)


def _why(rows: Iterable[Row], refused: int, last: str) -> str:
    """Why a work is not whole; "" where it is."""
    done = of_kind(rows, Done)
    said = last or (done[-1].last if done else "it ended before its end")
    if MISSING in said:
        return NO_TORCH
    if said or not refused:
        return said
    return f"{refused} of its rows cannot be understood"
