"""What ``diag`` says on a host, row by row: a host's word is data, read whole or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from r1deploy.onhost.operators import OPERATORS
from r1deploy.onhost.saying import MARK
from r1deploy.planning.border import Count, Part, Seconds, Size, Text

KNOWN = frozenset(operator.name for operator in OPERATORS)


def _known(name: str) -> str:
    if name not in KNOWN:
        raise ValueError("it is no operator of ours")
    return name


Error = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Function = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,127}$")]
OperatorName = Annotated[str, AfterValidator(_known)]
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sums = Annotated[list[Sum], Field(min_length=1, max_length=8)]
Uuid = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{0,64}$")]
Dtype = Literal["bf16", "fp32", "int64"]
Verdict = Literal["right", "wrong", "failed", "hung", "missing"]
Ended = Literal["done", "failed", "hung"]
Kind = TypeVar("Kind")
Tokens = Annotated[list[Count], Field(max_length=4096)]


class Versions(Part):
    """What has to fit each other; "" where a part is not there."""

    kind: Literal["versions"]
    flaggems: bool
    torch: Text = ""
    triton: Text = ""
    flag_gems: Text = ""
    chip: Text = ""
    python: Text = ""


class CaseRow(Part):
    """An operator at one type and number of tokens. ``error`` is None where there is no number."""

    kind: Literal["case"]
    operator: OperatorName
    dtype: Dtype
    tokens: Count
    bound: Error
    error: Error | None
    verdict: Verdict
    from_flaggems: bool
    seconds: Seconds | None
    last: Text


class Switch(Part):
    """The functions of FlagGems that serve one operator of the dispatcher, variants spelled out."""

    base: Function
    names: Annotated[list[Function], Field(max_length=64)]


class OperatorRow(Part):
    """An operator's process is over."""

    kind: Literal["operator"]
    operator: OperatorName
    ended: Ended
    last: Text
    flaggems: bool
    from_flaggems: bool
    switches: Annotated[list[Switch], Field(max_length=16)]
    enabling: Seconds | None


class ForwardRow(Part):
    """A whole small pass at one type; ``last`` says why there is none."""

    kind: Literal["forward"]
    dtype: Dtype
    flaggems: bool
    error: Error | None
    seconds: Seconds | None
    last: Text
    next: Tokens
    wanted: Tokens
    greedy: Tokens


class ChipRow(Part):
    """A chip; of one that failed only the first parts are known."""

    kind: Literal["chip"]
    index: Count
    ended: Ended
    last: Text
    name: Text = ""
    uuid: Uuid = ""
    total: Count = 0
    free: Count = 0
    sums: dict[Literal["bf16", "fp32"], Sums] = Field(default_factory=dict)
    tflops: Size | None = None
    gbs: Size | None = None
    tested: Count = 0
    bad_chunks: Count = 0
    passes: Count = 0
    memory_seconds: Seconds | None = None


class Done(Part):
    """A part of ``diag`` is over on a host. A host of whose part this row is missing was interrupted."""

    kind: Literal["done"]
    seconds: Seconds
    chips: Count | None = None
    operators: Count | None = None
    last: Text = ""


Row = Versions | CaseRow | OperatorRow | ForwardRow | ChipRow | Done
_READER: TypeAdapter[Row] = TypeAdapter(Annotated[Row, Field(discriminator="kind")])


@dataclass(frozen=True)
class Said:
    """What one work said. ``last`` says why it is not whole; ``over``: nothing more is to be asked there."""

    rows: tuple[Row, ...] = ()
    last: str = ""
    over: bool = False


def row_of(found: Any) -> Row | None:
    """A row as we know it; None for anything else."""
    try:
        return _READER.validate_python(found)
    except ValidationError:
        return None


def parsed(lines: Iterable[str], read: Callable[[Any], Kind | None]) -> tuple[list[Kind], int]:
    """(the rows in what a host printed, how many marked lines are none). Lines without the mark are no rows."""
    rows, refused = [], 0
    for line in lines:
        if not line.startswith(MARK):
            continue
        try:
            row = read(json.loads(line[len(MARK) :]))
        except (ValueError, RecursionError):
            row = None
        rows += [row] if row is not None else []
        refused += row is None
    return rows, refused


def rows_in(lines: Iterable[str]) -> tuple[list[Row], int]:
    """The rows of chips and kernels: see ``parsed``."""
    return parsed(lines, row_of)
