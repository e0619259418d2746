"""What ``diag`` last found on each host, as diag.json there says it, and what that is worth for a release; pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, field_validator

from r1deploy.cluster.ranges import spoken
from r1deploy.planning import border
from r1deploy.units import age

Part = Literal["chips", "kernels", "network"]
PARTS: tuple[Part, ...] = get_args(Part)
STAMP = "%Y-%m-%dT%H:%M:%SZ"


def seconds_of(stamp: str) -> float:
    """A time of diag.json in seconds since 1970. Raises ValueError."""
    return datetime.datetime.strptime(stamp, STAMP).replace(tzinfo=datetime.UTC).timestamp()


def _a_time(stamp: str) -> str:
    seconds_of(stamp)
    return stamp


class Kept(border.Part):
    """One part as it ended on a host: of which release, when, whether nothing was wrong.

    ``chips`` of this host; ``findings`` of the whole part, over all its hosts; ``run`` is the id in the history.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True, strict=True)

    release: border.Name
    time: Annotated[str, Field(pattern=r"^[0-9T:-]{19}Z$"), AfterValidator(_a_time)]
    ok: bool
    chips: border.Count
    findings: border.Count
    run: border.Name


class DiagRecord(border.Part):
    """diag.json of a host; a part that never ran there, or whose entry was edited into another shape, is None."""

    chips: Kept | None = None
    kernels: Kept | None = None
    network: Kept | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _readable(cls, entry: Any) -> Kept | None:
        """An entry that cannot be read says nothing; the parts beside it do."""
        try:
            return Kept.model_validate(entry)
        except ValidationError:
            return None

    def of(self, part: Part) -> Kept | None:
        """The entry of a part."""
        entry: Kept | None = getattr(self, part)
        return entry


@dataclass(frozen=True)
class Standing:
    """What the results of one part are worth for a release.

    ``state``: verified, wrong (it found something), other (only known of ``release``, another one), never.
    ``hosts`` have that result, ``missing`` ones answered without one, ``silent`` ones did not answer. ``time`` is the
    oldest one of what is verified, else the newest. ``ok``: whether the newest result found nothing wrong.
    """

    part: Part
    state: Literal["verified", "wrong", "other", "never"]
    hosts: Sequence[str]
    missing: Sequence[str]
    silent: Sequence[str]
    chips: int
    time: str | None
    release: str | None
    ok: bool

    @property
    def good(self) -> bool:
        """Whether each host that answered has the right result."""
        return self.state == "verified" and not self.missing


def standings(release: str, hosts: Sequence[str], kept: Mapping[str, DiagRecord | None]) -> list[Standing]:
    """Each part's worth. In: the release's id; the hosts in their order; the records of those that answered."""
    return [_standing(part, release, hosts, kept) for part in PARTS]


def _standing(part: Part, release: str, hosts: Sequence[str], kept: Mapping[str, DiagRecord | None]) -> Standing:
    entries = [(host, record.of(part)) for host in hosts if (record := kept.get(host))]
    known = {host: entry for host, entry in entries if entry}
    mine = {host: entry for host, entry in known.items() if entry.release == release}
    state: Literal["verified", "wrong", "other", "never"]
    if wrong := {host: entry for host, entry in mine.items() if not entry.ok}:
        state, rows = "wrong", wrong
    elif mine:
        state, rows = "verified", _of_one_run(mine) if part == "network" else mine
    else:
        state, rows = ("other" if known else "never"), known
    times = sorted(entry.time for entry in rows.values())
    newest = max(rows.values(), key=lambda entry: entry.time, default=None)
    return Standing(
        part,
        state,
        tuple(rows),
        tuple(host for host in hosts if host in kept and host not in rows),
        tuple(host for host in hosts if host not in kept),
        sum(entry.chips for entry in rows.values()),
        (times[0] if state == "verified" else times[-1]) if times else None,
        newest.release if newest else None,
        newest is not None and newest.ok,
    )


def _of_one_run(mine: Mapping[str, Kept]) -> dict[str, Kept]:
    """The newest run's entries: two runs with a host each have measured no wire between the two."""
    newest = max(mine.values(), key=lambda entry: entry.time)
    return {host: entry for host, entry in mine.items() if entry.run == newest.run}


def status_rows(rows: Sequence[Standing], now: float) -> list[str]:
    """A line a part for people, or one for all where none ever ran. In: the time, in seconds since 1970."""
    if all(row.state == "never" for row in rows):
        return [f"never (r1deploy diag){_unheard(rows[0].silent)}"]
    return [f"{row.part}: {_sentence(row, now)}{_unheard(row.silent)}" for row in rows]


def _unheard(silent: Sequence[str]) -> str:
    return f"; no answer from {spoken(silent)}" if silent else ""


def _sentence(row: Standing, now: float) -> str:
    since = f"{age(max(now - seconds_of(row.time), 0))} ago" if row.time else ""
    if row.state == "verified":
        lacks = f"; not on {spoken(row.missing)}" if row.missing else ""
        return f"verified on {_many(len(row.hosts), 'host')}, {_many(row.chips, 'chip')}, {since}{lacks}"
    if row.state == "wrong":
        return f"found something wrong {since}: r1deploy diag {row.part}"
    if row.state == "never":
        return "never"
    found = "verified" if row.ok else "found something wrong"
    return f"{found} for release {row.release}, not for this one"


def lacking(rows: Sequence[Standing]) -> list[str]:
    """What forbids to call a release verified, a text a part; without ages, so that it stays the same."""
    return [f"{row.part} {_fault(row)}" for row in rows if not row.good]


def _fault(row: Standing) -> str:
    if row.state == "wrong":
        return f"found something wrong ({spoken(row.hosts)})"
    return f"did not run on {spoken(row.missing)}" if row.state == "verified" else "did not run"


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
