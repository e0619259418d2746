"""What r1deploy itself has written down on a host, read like any other word of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, RootModel, ValidationError, ValidationInfo, field_validator

from r1deploy.planning.border import Address, Count, Leftover, ModeName, Name, Part, Place, Port, Seconds, Size, Text
from r1deploy.planning.diagrecord import DiagRecord


class TreeState(Part):
    """A tree against its manifest: ``bad`` names the first files that differ."""

    digest: Text
    bad: tuple[Text, ...]
    bad_count: Count
    files: Count


class RecordHost(Part):
    """A host as a configuration was written for it."""

    name: Text
    address: Address
    slots: Count
    files: dict[Text, Text]


class Record(Part):
    """``release.json`` beside a configuration: what has to be in place to serve it again.

    ``hosts`` head first; ``files`` of a host: name → sha256 (``release.json`` itself left out).
    """

    release: Name
    config: Name
    image: Text | None
    trees: tuple[Name, ...]
    commits: dict[Text, Text]
    container: Name
    service: Text
    mode: ModeName
    model: Text
    port: Port
    ssh_port: Port
    hosts: tuple[RecordHost, ...]


class ReleaseState(Part):
    """Configuration folders of a release: ``{config id: {file: (sha256, mode)}}``, and their records."""

    configs: dict[Name, dict[Text, tuple[Text | None, Text]]]
    records: dict[Name, Record | None]

    @field_validator("records", mode="before")
    @classmethod
    def _readable(cls, records: Any) -> Any:
        """A record that was edited into another shape is drift of a file, not a probe that failed."""
        if not isinstance(records, dict):
            return records
        return {name: row if _fits(Record, row) else None for name, row in records.items()}


def _fits(kind: type[BaseModel], row: Any) -> bool:
    try:
        kind.model_validate(row)
    except ValidationError:
        return False
    return True


class SettingTexts(RootModel[Annotated[dict[Text, Text], Field(max_length=1024)]]):
    """Dotted path → value, as ``settingtexts`` makes them."""


class Switched(Part):
    """How long a switch to a release took, ``at`` its end.

    ``seconds`` in all: those without an answer where something served before (``gap``), else those of the start.
    ``parts``: what they were spent on, in its order.
    """

    at: Text
    gap: bool
    seconds: Seconds
    parts: dict[Name, Seconds] = Field(max_length=16)


class Active(Part):
    """What ``serve`` made active, whether it passed the gate, and what was active before.

    ``answered`` is when the gate saw its token, ``seconds`` how long that start took. ``switches``: the last switch to
    each release that is on the hosts, by ``release/config``; ``settings``: those of the active and the previous one.
    """

    release: Name
    config: Name
    since: Text | None = None
    proven: bool = False
    previous: Place | None = None
    answered: Text | None = None
    seconds: Seconds | None = None
    switches: dict[Text, Switched] = Field(default_factory=dict)
    settings: dict[Text, SettingTexts] = Field(default_factory=dict)

    @field_validator("switches", "settings", mode="before")
    @classmethod
    def _readable(cls, rows: Any, info: ValidationInfo) -> Any:
        """What is no measurement, or no settings, says nothing: what is active is known without it."""
        kind = Switched if info.field_name == "switches" else SettingTexts
        return {name: row for name, row in rows.items() if _fits(kind, row)} if isinstance(rows, dict) else {}


class Trust(Part):
    """The head's key and the files beside it."""

    public_key: Text | None
    files: dict[Text, tuple[Text | None, Text]]


class RunLine(Part):
    """One run that touched the host."""

    id: Text
    time: Text
    verb: Text
    who: Text
    source: Text = Field(alias="from")
    result: Text
    release: Text | None = None


class LockInfo(Part):
    """Who holds the cluster: ``since`` and ``beat`` in seconds of the head's clock."""

    id: Text
    who: Text
    source: Text = Field(alias="from")
    verb: Text
    doing: Text | None
    since: Seconds
    beat: Seconds


class State(Part):
    """Our folder on the host."""

    exists: bool
    free_gib: Size
    bin: dict[Text, Text | None]
    folders: dict[Text, Text | None]
    trees: dict[Name, TreeState | None]
    sources: dict[Text, Text | None]
    releases: dict[Name, ReleaseState]
    active: Active | None
    trust: Trust
    leftovers: tuple[Leftover, ...]
    history: tuple[RunLine, ...]
    diag: DiagRecord | None = None

    @field_validator("diag", mode="before")
    @classmethod
    def _a_record(cls, found: Any) -> Any:
        """What is no record of ``diag`` says nothing of it: as if it had never run."""
        return found if isinstance(found, dict) else None

    @field_validator("history", mode="before")
    @classmethod
    def _lines(cls, lines: Any) -> Any:
        """A line that was edited into another shape tells nothing of a run."""
        return [row for row in lines if _fits(RunLine, row)] if isinstance(lines, list | tuple) else lines
