"""RESULTS.md: the same numbers for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.figures import Rows, ratios_of, spread

TITLES = {
    "rerun": "Re-run with nothing to do",
    "fanout": "Fan-out on limited links",
    "bootstrap": "Bootstrap from nothing, upgrades of one input",
    "cli": "Commands on two hosts; memory at 64",
    "stream": "Output of a command through `exec`",
}
QUANTITIES = {
    "wall": "wall s",
    "cpu": "CPU s",
    "memory_mib": "MiB",
    "sent_mib": "MiB sent",
    "written_mib": "MiB written",
}
# Quantity, way above, way below: what the bars of the project speak of.
RATIOS = {
    "rerun": (
        ("wall", "r1deploy", "ssh"),
        ("wall", "pyinfra", "r1deploy"),
        ("cpu", "r1deploy", "pyinfra"),
        ("wall", "ssh", "ssh_classic"),
        ("cpu", "ssh", "ssh_classic"),
    ),
    "fanout": (("wall", "limit", "r1deploy"),),
    "bootstrap": (("wall", "bootstrap", "critical_path"),),
    "stream": (("wall", "exec", "ssh"),),
}
HEAD = """\
# What r1deploy costs beside other ways

Written by `make bench`. Each cell is min / **median** / max of the rounds. All ways of one table were measured in one
run, in turn, round by round, after one round that does not count. CPU is the controller's: all processes that a way
starts here, not those of the hosts. MiB is the memory of its largest process. A load above the number of cores means
that the machine was busy with something else. `benchmarks/` says what each way is.
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [part for part in TITLES if part in document.get("details", {})]
    rows = [line for part in parts for line in section(document, part)]
    return "\n".join([HEAD, *rows]).rstrip() + "\n"


def section(document: Mapping[str, Any], part: str) -> Iterator[str]:
    """One part: where it ran, a table of ways, a table of ratios, notes."""
    cases, run = document["details"][part], document["runs"][part]
    yield from (f"## {TITLES[part]}", "", where(run), "")
    yield from table(["case", "way", *columns(cases)], ways_rows(cases))
    compared = list(ratio_rows(cases, RATIOS.get(part, ())))
    if compared:
        yield from table(["case", "of", "ratio", "round by round"], compared)
    yield from (f"- {note}" for note in run["notes"])
    yield ""


def where(run: Mapping[str, Any]) -> str:
    """The machine and the versions, in a line."""
    machine, versions = run["machine"], run["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{run['time']}; {run['rounds']} rounds; {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB, load {machine['load']}; {machine['system']}; {named}."
    )


def columns(cases: Mapping[str, Mapping[str, Rows]]) -> list[str]:
    """Headings of the quantities that one of the ways has."""
    return [QUANTITIES[name] for name in quantities(cases)]


def quantities(cases: Mapping[str, Mapping[str, Rows]]) -> list[str]:
    """The quantities that one of the ways has, in their order."""
    there = {name for ways in cases.values() for rows in ways.values() for name in rows}
    return [name for name in QUANTITIES if name in there]


def ways_rows(cases: Mapping[str, Mapping[str, Rows]]) -> Iterator[list[str]]:
    """A row a case and way."""
    names = quantities(cases)
    for case, ways in cases.items():
        for way, rows in ways.items():
            yield [case, way, *(cell(rows[name]) if name in rows else "–" for name in names)]


def ratio_rows(cases: Mapping[str, Mapping[str, Rows]], pairs: Sequence[tuple[str, str, str]]) -> Iterator[list[str]]:
    """A row a case and ratio, where both were measured."""
    for case, ways in cases.items():
        for quantity, above, below in pairs:
            found = ratios_of(ways, (quantity, above, below))
            if found:
                yield [case, quantity, f"{above} / {below}", " / ".join(f"{value:.2f}" for value in found)]


def cell(values: Sequence[float]) -> str:
    """min / **median** / max."""
    least, median, most = spread(values)
    return f"{number(least)} / **{number(median)}** / {number(most)}"


def number(value: float) -> str:
    """Two digits after the point where that says something."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def table(head: Sequence[str], rows: Iterator[list[str]] | list[list[str]]) -> Iterator[str]:
    """A table of Markdown and an empty line."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""
