"""What ``diag network`` says on a host, row by row: a host's word is data, read whole or refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from r1deploy.assurance.diagrows import Ended, parsed
from r1deploy.planning.border import Count, Part, Port, Seconds, Size, Text

PeerName = Annotated[str, Field(min_length=1, max_length=255)]
Interface = Annotated[str, Field(pattern=r"^[^\s/]{0,15}$")]
Source = Annotated[str, Field(pattern=r"^[0-9A-Fa-f.:]{0,45}$")]
Offset = Annotated[float, Field(ge=-(2**33), le=2**33, allow_inf_nan=False)]
Result = Literal["open", "other", "refused", "timeout", "reset", "unreachable", "failed"]
Operation = Literal["all_reduce", "broadcast"]
Ranks = Annotated[list[Count], Field(max_length=4096)]
Names = Annotated[list[Text], Field(max_length=4096)]


class HeldPort(Part):
    """A port that could not be listened on."""

    port: Port
    last: Text


class ListeningRow(Part):
    """On what a host listens. ``interface`` is "" where none of its has the address."""

    kind: Literal["listening"]
    address: Source
    interface: Interface
    mtu: Count
    ports: Annotated[list[Port], Field(max_length=256)]
    held: Annotated[list[HeldPort], Field(max_length=256)]
    probe_port: Annotated[int, Field(ge=0, le=65535)]


class PortRow(Part):
    """A port of another host. ``other``: something that is not our listener took the connection."""

    kind: Literal["port"]
    to: PeerName
    port: Port
    result: Result
    ms: Size | None
    last: Text


class RouteRow(Part):
    """By which way the kernel sends; of a part that failed only ``last`` is known, here and below."""

    kind: Literal["route"]
    to: PeerName
    last: Text
    source: Source = ""
    interface: Interface = ""
    mtu: Count = 0
    wanted_source: Source = ""
    wanted_interface: Interface = ""


class DelayRow(Part):
    """Round trips of small messages, and how far the other clock is ahead, in seconds."""

    kind: Literal["delay"]
    to: PeerName
    last: Text
    median_ms: Size | None = None
    least_ms: Size | None = None
    samples: Count = 0
    offset: Offset | None = None
    uncertain: Seconds | None = None


class FlowRow(Part):
    """What got through in so many streams."""

    kind: Literal["flow"]
    to: PeerName
    last: Text
    streams: Count = 0
    bytes: Count = 0
    seconds: Seconds | None = None
    gbit: Size | None = None


class PathRow(Part):
    """The path's MTU, by probes or, where none came through, by what TCP knows."""

    kind: Literal["path"]
    to: PeerName
    last: Text
    how: Literal["probes", "tcp"] = "tcp"
    path: Count = 0
    interface_mtu: Count = 0
    tcp_mtu: Count = 0
    segment: Count = 0


class CollectiveRow(Part):
    """An operation over all ranks, as one of them saw it."""

    kind: Literal["collective"]
    rank: Count
    operation: Operation
    bytes: Count
    exact: bool
    seconds: Seconds
    gbs: Size


class AbsentRow(Part):
    """The ranks that rank 0 waited for in vain."""

    kind: Literal["absent"]
    ranks: Ranks
    names: Names


class RankRow(Part):
    """A rank is over; ``doing`` is what it did last."""

    kind: Literal["rank"]
    rank: Count
    name: Text
    backend: Text
    ended: Ended
    doing: Text
    last: Text


class WiresDone(Part):
    """A part is over on a host. A host of whose part this row is missing was interrupted."""

    kind: Literal["done"]
    seconds: Seconds
    served: Count = 0
    strangers: Count = 0


WireRow = (
    ListeningRow
    | PortRow
    | RouteRow
    | DelayRow
    | FlowRow
    | PathRow
    | CollectiveRow
    | AbsentRow
    | RankRow
    | WiresDone
)  # fmt: skip
_READER: TypeAdapter[WireRow] = TypeAdapter(Annotated[WireRow, Field(discriminator="kind")])


def wire_row_of(found: Any) -> WireRow | None:
    """A row as we know it; None for anything else."""
    try:
        return _READER.validate_python(found)
    except ValidationError:
        return None


def wire_rows_in(lines: Iterable[str]) -> tuple[list[WireRow], int]:
    """The rows of the network's part: see ``diagrows.parsed``."""
    return parsed(lines, wire_row_of)
