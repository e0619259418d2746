"""TEMPORARY stand-in until the branch ``net`` is merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from r1deploy.assurance.inside import Place
from r1deploy.assurance.rankjudge import CollectiveLine
from r1deploy.assurance.wirejudge import WireFinding, WireLine
from r1deploy.assurance.wirerows import WireRow
from r1deploy.observe.view import View
from r1deploy.run import Run


@dataclass(frozen=True)
class CollectiveRun:
    """TEMPORARY."""

    library: str
    lines: list[CollectiveLine]
    findings: list[WireFinding]
    rows: Mapping[str, Sequence[WireRow]]


@dataclass(frozen=True)
class NetworkResult:
    """TEMPORARY."""

    rows: Mapping[str, Sequence[WireRow]]
    table: list[WireLine]
    findings: list[WireFinding]
    collectives: list[CollectiveRun]
    notes: list[str]


def measure_network(
    run: Run, view: View, places: Mapping[str, Place], heard: Callable[[str, str], None]
) -> NetworkResult:
    """TEMPORARY."""
    return NetworkResult({}, [], [], [], ["the network was not measured"])
