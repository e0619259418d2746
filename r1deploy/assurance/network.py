"""``diag network``: every pair of hosts, both ways, then collectives over all of them; what was found."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from r1deploy.assurance.inside import Place
from r1deploy.assurance.netcollectives import CollectiveRun, measure_collectives
from r1deploy.assurance.netwires import Site, Told, measure_wires
from r1deploy.assurance.wirejudge import Limits, WireFinding, WireLine, judge, listed, table
from r1deploy.assurance.wirerows import WireRow
from r1deploy.observe.view import View
from r1deploy.run import Run
from r1deploy.settings.model import Diag


@dataclass(frozen=True)
class NetworkResult:
    """All that was found. ``rows`` by host; ``notes``: what could not be looked at, and why."""

    rows: Mapping[str, Sequence[WireRow]]
    table: list[WireLine]
    findings: list[WireFinding]
    collectives: list[CollectiveRun]
    notes: list[str]


def measure_network(run: Run, view: View, places: Mapping[str, Place], heard: Told) -> NetworkResult:
    """The network between the hosts of ``places``; a host that is lost is a finding, and the others go on.

    In: host → where its containers' part works; ``heard`` takes a host and what it does now, from several threads.
    """
    hosts = [host for host in view.desired.hosts if host.name in places]
    with contextlib.ExitStack() as stack:
        remotes = {host.name: stack.enter_context(run.remote(view, host.name)) for host in hosts}
        site = Site(run.settings, hosts, view.probed.observed, remotes, places, heard)
        wires = measure_wires(site)
        there = [host for host in hosts if host.name not in wires.lost]
        collectives, notes = measure_collectives(replace(site, hosts=there), wires)
    alone = [] if len(hosts) > 1 else ["one host: no pairs to measure"]
    if wires.lost and collectives:
        notes = [f"the collectives are without {listed(sorted(wires.lost))}", *notes]
    return NetworkResult(
        rows=wires.rows,
        table=table(wires.rows),
        findings=judge(wires.rows, limits_of(run.settings.diag)),
        collectives=collectives,
        notes=list(dict.fromkeys([*alone, *wires.notes, *notes])),
    )


def limits_of(diag: Diag) -> Limits:
    """What the settings ask of the network."""
    return Limits(floor_gbit=diag.floor_gbit or 0.0, clock=diag.clock_seconds, delay_ms=diag.delay_ms)
