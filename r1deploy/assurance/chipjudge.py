"""The judge of ``diag chips``: which chip computes something else than it did, and than the others do. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from r1deploy.assurance.diagrows import ChipRow
from r1deploy.units import size_of

# What lies further off the median than this is named.
SLOW = 0.2
Level = Literal["error", "warning"]


@dataclass(frozen=True)
class ChipFinding:
    """What is wrong with one chip, or with a host as a whole (``index`` None)."""

    level: Level
    host: str
    index: int | None
    uuid: str
    what: str

    def sentence(self) -> str:
        """``node2, chip 3 (GPU-…): …``."""
        chip = "" if self.index is None else f", chip {self.index}" + (f" ({self.uuid})" if self.uuid else "")
        return f"{self.host}{chip}: {self.what}"


Placed = tuple[str, ChipRow]


def judge(hosts: Mapping[str, Sequence[ChipRow]]) -> list[ChipFinding]:
    """All chips of all hosts. Chips of different names are not compared with each other."""
    chips: list[Placed] = [(host, row) for host, rows in hosts.items() for row in rows]
    found = [ChipFinding("error", host, None, "", "no chip answered") for host, rows in hosts.items() if not rows]
    for host, row in chips:
        found += [_finding("error", host, row, what) for what in _alone(row)]
    for name in dict.fromkeys(row.name for _, row in chips):
        equal = [(host, row) for host, row in chips if row.name == name]
        found += [*_odd(equal, "bf16"), *_odd(equal, "fp32"), *_slow(equal)]
    return found


def _finding(level: Level, host: str, row: ChipRow, what: str) -> ChipFinding:
    return ChipFinding(level, host, row.index, row.uuid, what)


def _alone(row: ChipRow) -> list[str]:
    """What one chip shows by itself."""
    said = {"done": "", "hung": f"hung: {row.last}", "failed": f"failed: {row.last}"}[row.ended]
    found = [said] if said else []
    if row.bad_chunks:
        found.append(f"memory: {row.bad_chunks} parts of {size_of(row.tested)} did not hold what was written")
    found += [f"one product in {kind} gave two results" for kind, sums in row.sums.items() if len(set(sums)) > 1]
    if row.ended == "done" and not (row.sums and row.tested and row.passes):
        found.append("it told of no product, or of no memory")
    return found


def _odd(chips: Sequence[Placed], kind: Literal["bf16", "fp32"]) -> list[ChipFinding]:
    """The chips whose sum is not that of most. Where no sum is that of most, every one is named."""
    steady = [(host, row) for host, row in chips if len(set(row.sums.get(kind, []))) == 1]
    counted = Counter(row.sums[kind][0] for _, row in steady).most_common()
    if len(counted) < 2:
        return []
    usual, number = counted[0]
    if 2 * number <= len(steady):
        text = f"its product in {kind} has the sum {{}}: the {len(steady)} chips agree on none"
        return [_finding("error", host, row, text.format(row.sums[kind][0][:12])) for host, row in steady]
    text = f"its product in {kind} differs from that of {number} equal chips"
    return [_finding("error", host, row, text) for host, row in steady if row.sums[kind][0] != usual]


def _slow(chips: Sequence[Placed]) -> list[ChipFinding]:
    """Warnings: a chip that is a fifth off the median, in the product or in the copy."""
    found = []
    for what, unit, speed in (("product", "TFLOP/s", "tflops"), ("copy", "GB/s", "gbs")):
        measured = [(host, row, getattr(row, speed)) for host, row in chips if getattr(row, speed) is not None]
        median = statistics.median([number for _, _, number in measured]) if len(measured) > 1 else 0.0
        for host, row, number in measured:
            if median and number < (1 - SLOW) * median:
                less = round(100 * (1 - number / median))
                text = f"the {what} runs at {number:.1f} {unit}, {less} % under the median of {median:.1f}"
                found.append(_finding("warning", host, row, text))
    return found
