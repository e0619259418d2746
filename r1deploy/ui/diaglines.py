"""What ``diag`` found, for people: tables, findings, what to switch off, and the file that each number comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from r1deploy.assurance.chippart import ChipResult
from r1deploy.assurance.kerneljudge import OperatorVerdict, PassVerdict
from r1deploy.assurance.kernelreport import KernelReport, by_trouble
from r1deploy.ui.lines import counted, table, wrap
from r1deploy.ui.netlines import network_lines
from r1deploy.units import size_of

if TYPE_CHECKING:
    from r1deploy.verbs.diag import Diagnosis, Proof

HOST_COLUMNS = 20


def diag_lines(done: Diagnosis) -> list[str]:
    """All parts, each with its file; the last line says how it came out."""
    rows = [f"release {done.release}"]
    for part, proof in done.parts.items():
        rows += ["", part, *part_lines(proof)]
        rows.append(f"  file {proof.file}")
    errors = sum(len(proof.result.findings) for proof in done.parts.values())
    warnings = sum(len(proof.result.warnings) for proof in done.parts.values())
    also = f", {counted(warnings, 'warning')}" if warnings else ""
    return [*rows, "", f"{counted(errors, 'finding')}{also}." if errors else f"Nothing is wrong{also}."]


def part_lines(proof: Proof) -> Iterator[str]:
    """The tables of one part, its findings, and what helps."""
    if isinstance(proof.about, ChipResult):
        yield from indented(table(chip_cells(proof.about)))
        yield from finding_lines("FAIL", proof.result.findings)
    elif isinstance(proof.about, Mapping):
        yield from kernel_lines(proof.about)
    else:
        yield from network_lines(proof.about)
        yield from finding_lines("FAIL", proof.result.findings)
    yield from finding_lines("warn", proof.result.warnings)


def finding_lines(mark: str, sentences: Iterable[str]) -> Iterator[str]:
    """A line each, and more where it is long."""
    for sentence in sentences:
        yield from wrap(sentence, f"  {mark} ", "       ")


def indented(rows: Iterable[str]) -> Iterator[str]:
    """The rows of a table."""
    return (f"  {row}" for row in rows)


def chip_cells(found: ChipResult) -> list[list[str]]:
    """A row a chip: its speeds, the memory that held what was written, its name."""
    rows = [["host", "chip", "TFLOP/s", "GB/s", "memory", "name"]]
    for host in found.said:
        for chip in found.chips(host):
            speeds = ["-" if number is None else f"{number:.1f}" for number in (chip.tflops, chip.gbs)]
            rows.append([host[:HOST_COLUMNS], str(chip.index), *speeds, size_of(chip.tested), chip.name[:30] or "-"])
    return rows


def kernel_lines(hosts: Mapping[str, KernelReport]) -> Iterator[str]:
    """A table for all hosts of equal verdicts, what is wrong, what helps; each once."""
    groups: dict[tuple[tuple[str, bool, str], ...], list[str]] = {}
    for host, report in hosts.items():
        groups.setdefault(tuple((row.operator, row.from_flaggems, row.verdict) for row in report.table), []).append(
            host
        )
    for names in groups.values():
        first, report = names[0], hosts[names[0]]
        yield from wrap(f"{first}: {versions_of(report)}", "  ", "    ")
        yield from indented(table(operator_cells(report.table)) if report.table else ())
        yield from indented(table(pass_cells(report.passes)) if report.passes else ())
        if names[1:]:
            yield from wrap(f"the same verdicts on {', '.join(names[1:])}: their numbers are in the file", "  ", "    ")
    for one, names in by_trouble(hosts).items():
        yield from finding_lines("FAIL", [f"{', '.join(names)}: {one.sentence()}"])
        if len(one.operators) > 1:
            yield from wrap(", ".join(one.operators), "       ", "       ")
    advised: dict[tuple[str, ...], list[str]] = {}
    for host, report in hosts.items():
        if report.switch_off:
            advised.setdefault((*report.switch_off, "", *report.left), []).append(host)
    for names in advised.values():
        yield from advice_lines(", ".join(names), hosts[names[0]])


def versions_of(report: KernelReport) -> str:
    """``FlagGems 2.2, Triton 3.6.0, PyTorch 2.11.0, name of the chip``."""
    known = report.versions
    if known is None:
        return "no versions"
    named = (("FlagGems", known.flag_gems), ("Triton", known.triton), ("PyTorch", known.torch), ("", known.chip))
    return ", ".join(f"{name} {version}".strip() for name, version in named if version)


def number(value: float | None) -> str:
    """An error as a cell."""
    return "-" if value is None else f"{value:.1e}" if value else "0"


def operator_cells(rows: Sequence[OperatorVerdict]) -> list[list[str]]:
    """A row an operator; the errors are relative ones against fp64, or shares of what is moved wrongly."""
    cells = [["operator", "from", "error without", "with", "first call", "verdict"]]
    for row in rows:
        seconds = "-" if row.seconds is None else f"{row.seconds:.2f} s"
        whose = "FlagGems" if row.from_flaggems else "PyTorch"
        cells.append([row.operator, whose, number(row.error_without), number(row.error_with), seconds, row.verdict])
    return cells


def pass_cells(rows: Sequence[PassVerdict]) -> list[list[str]]:
    """A row a type of the whole pass: errors, and the share of tokens that agree."""
    cells = [["whole pass", "error without", "with", "next tokens", "greedy tokens", "verdict"]]
    for row in rows:
        agree = ["-" if share is None else f"{share:.0%} agree" for share in (row.next_agree, row.greedy_agree)]
        verdict = "right" if row.right else "wrong"
        cells.append([row.dtype, number(row.error_without), number(row.error_with), *agree, verdict])
    return cells


def advice_lines(where: str, report: KernelReport) -> Iterator[str]:
    """What to switch off, as each of its readers takes it, and whether that was seen to help."""
    ran = counted(len(report.runs.again), "further run")
    switched = f"{where}: with {counted(len(report.switch_off), 'function')} of FlagGems switched off"
    if report.left:
        yield from wrap(f"{switched} it is still not right ({ran}): {'; '.join(report.left)}", "  ", "    ")
        return
    yield from wrap(f"{switched} all is right, verified by running again ({ran}):", "  ", "    ")
    for reader, text in report.switches.items():
        rows = text.splitlines() if "\n" in text else [f"{reader}: {text}"]
        yield from (f"    {row}" for row in rows)
