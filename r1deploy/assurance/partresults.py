"""What each part of ``diag`` found, in the form that is kept and shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from r1deploy.assurance.chippart import ChipResult
from r1deploy.assurance.diagkept import PartResult
from r1deploy.assurance.diagrows import Row, Said
from r1deploy.assurance.kernelreport import Comparison, KernelReport, by_trouble
from r1deploy.assurance.network import NetworkResult
from r1deploy.assurance.wirerows import WireRow


def rows_of(rows: Iterable[Row | WireRow]) -> list[dict[str, Any]]:
    """What a host said, row by row."""
    return [row.model_dump() for row in rows]


def by_host(hosts: Mapping[str, Iterable[Row | WireRow]]) -> dict[str, list[dict[str, Any]]]:
    """The same of many hosts."""
    return {host: rows_of(rows) for host, rows in hosts.items()}


def chips_kept(found: ChipResult) -> PartResult:
    """Of the chips."""
    errors = found.sentences("error")
    return PartResult(
        part="chips",
        ok=not errors,
        chips={host: len(found.chips(host)) for host in found.said},
        findings=errors,
        warnings=found.sentences("warning"),
        document={**found.document(), "rows": by_host({host: said.rows for host, said in found.said.items()})},
    )


def kernels_kept(found: Mapping[str, KernelReport], chips: Mapping[str, int]) -> PartResult:
    """Of the kernels. In: by host, over how many chips they were spread."""
    errors = [f"{', '.join(hosts)}: {one.sentence()}" for one, hosts in by_trouble(found).items()]
    return PartResult(
        part="kernels",
        ok=not errors,
        chips=chips,
        findings=errors,
        warnings=[f"{host}: {text}" for host, report in found.items() for text in report.warnings],
        document={
            "hosts": {host: report.document() for host, report in found.items()},
            "rows": {host: _runs(report) for host, report in found.items()},
        },
    )


def _runs(report: KernelReport) -> list[dict[str, Any]]:
    """Every run of a host, with all its rows."""
    runs = report.runs
    return [_run(False, runs.plain), *(_run(True, one) for one in (runs.gems, *runs.again) if one)]


def _run(flaggems: bool, one: Comparison) -> dict[str, Any]:
    return {
        "flaggems": flaggems,
        "unused": list(one.unused),
        "operators": _said(one.operators),
        "forward": _said(one.forward),
    }


def _said(said: Said) -> dict[str, Any]:
    return {"last": said.last, "rows": rows_of(said.rows)}


def network_kept(found: NetworkResult, chips: Mapping[str, int]) -> PartResult:
    """Of the network."""
    findings = [*found.findings, *(one for each in found.collectives for one in each.findings)]
    errors = [one.sentence() for one in findings if one.level == "error"]
    collectives = [
        {
            "library": each.library,
            "lines": [asdict(line) for line in each.lines],
            "findings": [asdict(one) for one in each.findings],
        }
        for each in found.collectives
    ]
    return PartResult(
        part="network",
        ok=not errors,
        chips=chips,
        findings=errors,
        warnings=[one.sentence() for one in findings if one.level == "warning"],
        document={
            "table": [asdict(line) for line in found.table],
            "findings": [asdict(one) for one in found.findings],
            "collectives": collectives,
            "notes": list(found.notes),
            "rows": {
                "wires": {host: rows_of(rows) for host, rows in found.rows.items()},
                "collectives": [
                    {host: rows_of(rows) for host, rows in each.rows.items()} for each in found.collectives
                ],
            },
        },
    )
