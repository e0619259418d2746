"""What ``eval`` found, as tables: one model, drawn as text, as Markdown and as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from r1deploy.assurance.evalcolumns import Cell, Column
from r1deploy.assurance.evalcompare import Comparison
from r1deploy.assurance.evaljudge import Judged, Judgement
from r1deploy.assurance.evalrows import SETS, SetName
from r1deploy.assurance.evalstats import Interval
from r1deploy.ui import lines
from r1deploy.ui.terminal import shown

# Of one list, and of one cell, on a terminal; the files have all of it.
MOST_ROWS, MOST_LETTERS = 20, 17
# Of a p-value, what a float still tells from 0.
LEAST = 1e-300
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


@dataclass(frozen=True)
class Table:
    """A title, the head, rows of as many cells, and what is to be said below: notes, and the files of the numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[str, ...]


def percent(share: float | None) -> str:
    """A share in percent with two digits, as the page has it; ``TBD`` where there is none."""
    return "TBD" if share is None else f"{100 * share:.2f}"


def span(interval: Interval, sign: str = "") -> str:
    """An interval in points: ``94.1 – 96.3``, with ``sign`` "+" ``-1.8 – +1.4``."""
    return f"{100 * interval.low:{sign}.1f} – {100 * interval.high:{sign}.1f}"


def chance(p: float | None) -> str:
    """A p-value: ``0.78``, ``0.039``, ``5e-13``; none is 0."""
    if p is None:
        return "-"
    if p < LEAST:
        return f"<{LEAST:.0e}"
    return f"{p:.0e}" if p < 0.001 else f"{p:.2g}"


def _files(*columns: Column) -> list[str]:
    """One line a file, with the columns that are from it."""
    titles: dict[str, list[str]] = {}
    for column in columns:
        titles.setdefault(column.source, []).append(column.title)
    return [f"{', '.join(dict.fromkeys(names))}: {source}" for source, names in titles.items()]


def scores(ours: Column, beside: Sequence[Column]) -> Table:
    """A run beside other columns, a row a set: shares, our interval, questions, the share cut by length."""
    names = [name for name in SETS if any(name in column.cells for column in (ours, *beside))]
    rows = tuple((SETS[name].shown, *_shares(name, (*beside, ours)), *_of_ours(ours.cells.get(name))) for name in names)
    head = ("set", *(column.title for column in (*beside, ours)), "95 %", "n", "cut %")
    hows = dict.fromkeys(cell.how for cell in ours.cells.values())
    notes = [f"right in percent; interval of {ours.title}: {', '.join(hows) or 'none'}; n: questions"]
    return Table("Scores", head, rows, (*notes, *_asked(ours), *_files(*beside, ours)))


def _asked(ours: Column) -> list[str]:
    """What a reader has to know of how a run asked."""
    repeats, limit = (ours.run.settings.repeats, ours.run.settings.limit) if ours.run else (1, None)
    notes = [f"{ours.title}: the mean of {repeats} answers to each question"] if repeats > 1 else []
    first = f"{ours.title}: the first {limit} questions of each subject, which are no random sample"
    return [*notes, *([first] if limit else [])]


def _shares(name: SetName, columns: Sequence[Column]) -> list[str]:
    cells = [column.cells.get(name) for column in columns]
    return [percent(cell.share if cell else None) for cell in cells]


def _of_ours(cell: Cell | None) -> tuple[str, str, str]:
    if cell is None:
        return "-", "-", "-"
    return span(cell.interval), str(cell.questions), "-" if cell.cut is None else f"{100 * cell.cut:.1f}"


def verdicts(judgement: Judgement) -> Table:
    """A column against another, a row a set: both shares, the difference with its interval, p, Holm, the verdict."""
    here, there = judgement.here, judgement.there
    head = ("set", there.title, here.title, "points", "95 %", "p", "Holm", "verdict")
    margin = f"margin: {judgement.margin:g} points lower, stated before the run"
    rows = tuple(_verdict(row) for row in judgement.rows)
    below = (*_reasons(judgement), margin, *_tests(judgement), *_files(there, here))
    return Table(f"{here.title} against {there.title}", head, rows, below)


def _verdict(row: Judged) -> tuple[str, ...]:
    shares = [percent(cell.share if cell else None) for cell in (row.there, row.here)]
    if not row.measured:
        return SETS[row.set].shown, *shares, "-", "-", "-", "-", row.verdict
    found = row.measured
    numbers = (f"{100 * found.difference:+.2f}", span(found.interval, "+"), chance(found.p), chance(row.adjusted))
    return SETS[row.set].shown, *shares, *numbers, row.verdict


def _reasons(judgement: Judgement) -> list[str]:
    """Each verdict in words, once for the sets that share it."""
    sets: dict[str, list[str]] = {}
    for row in judgement.rows:
        sets.setdefault(f"{row.verdict}: {row.why}", []).append(SETS[row.set].shown)
    return [f"{', '.join(names)}: {reason}" for reason, names in sets.items()]


def _tests(judgement: Judgement) -> list[str]:
    """Which test each set had, over how many questions."""
    tests: dict[str, list[str]] = {}
    for row in judgement.rows:
        if row.measured:
            tests.setdefault(row.measured.test, []).append(f"{SETS[row.set].shown} (n {row.measured.questions})")
    part = [SETS[row.set].shown for row in judgement.rows if _of_a_part(row)]
    note = [f"{', '.join(part)}: points are of the n questions that both answered, not of all"] if part else []
    return [*(f"{test}: {', '.join(names)}" for test, names in tests.items()), *note]


def _of_a_part(row: Judged) -> bool:
    """Whether one of the runs has questions that the other was not asked, so that the shares are of more than both."""
    if row.measured is None or not row.measured.paired:
        return False
    return any(cell and cell.questions > row.measured.questions for cell in (row.here, row.there))


def comparison(found: Comparison) -> list[Table]:
    """Two runs: the verdicts, the agreement, the questions that flipped, where answers part."""
    here, there = found.judgement.here, found.judgement.there
    files = tuple(_files(there, here))
    agreed = tuple(
        (SETS[row.set].shown, str(row.questions), percent(row.share), str(row.here), str(row.there))
        for row in found.agreements
    )
    flips = tuple((SETS[row.set].shown, row.question, percent(row.there), percent(row.here)) for row in found.flips)
    firsts = tuple((SETS[row.set].shown, row.question, str(row.index), row.there, row.here) for row in found.first)
    only = (f"only {here.title}", f"only {there.title}")
    unlike = tuple(f"not the same: {row}" for row in found.unlike)
    tables = [
        verdicts(found.judgement),
        Table("Agreement", ("set", "n", "agree %", *only), agreed, (*unlike, *files)),
        Table("Flipped questions", ("set", "question", there.title, here.title), flips, files),
    ]
    first = Table("First token that differs", ("set", "question", "token", there.title, here.title), firsts, files)
    return [*tables, first] if firsts else tables


def text(table: Table) -> list[str]:
    """A table for a terminal; of a long one the first rows."""
    rows = [[_clipped(cell) for cell in row] for row in (table.head, *table.rows[:MOST_ROWS])]
    more = len(table.rows) - MOST_ROWS
    drawn = [f"  {row}" for row in lines.table(rows)] if table.rows else ["  none"]
    notes = [line for note in table.below for line in lines.wrap(note, "  ", "    ")]
    return [table.title, *drawn, *([f"  and {more} more"] if more > 0 else []), *notes]


def _clipped(cell: str) -> str:
    cell = _one_line(cell)
    return cell if len(cell) <= MOST_LETTERS else f"{cell[: MOST_LETTERS - 1]}…"


def markdown(tables: Sequence[Table]) -> str:
    """All tables as one Markdown text."""
    rows: list[str] = []
    for table in tables:
        rows += [f"## {_escaped(table.title)}", ""]
        drawn = (table.head, ("---",) * len(table.head), *table.rows)
        rows += [f"| {' | '.join(_escaped(cell) if cell != '---' else cell for cell in row)} |" for row in drawn]
        rows += ["", *(f"- {_escaped(note)}" for note in table.below), ""]
    return "\n".join(rows)


def _escaped(cell: str) -> str:
    """A text that is no markup, in one line."""
    return _MARKUP.sub(r"\\\1", _one_line(cell))


def _one_line(cell: str) -> str:
    return shown(cell).replace("\n", "\\n").replace("\t", "\\t")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>body {{ font: 1em sans-serif; margin: 2em }} table {{ border-collapse: collapse }}
td, th {{ border: 1px solid #999; padding: .2em .6em; text-align: left; font-variant-numeric: tabular-nums }}</style>
</head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def page(title: str, tables: Sequence[Table]) -> str:
    """All tables as one HTML page that loads nothing."""
    return _PAGE.format(title=_marked(title), body="\n".join(_section(table) for table in tables))


def _section(table: Table) -> str:
    head = "".join(f"<th>{_marked(cell)}</th>" for cell in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{_marked(cell)}</td>' for cell in row)}</tr>\n" for row in table.rows)
    notes = "".join(f"<li>{_marked(note)}</li>" for note in table.below)
    return f"<h2>{_marked(table.title)}</h2>\n<table><tr>{head}</tr>\n{rows}</table>\n<ul>{notes}</ul>"


def _marked(cell: str) -> str:
    return html.escape(_one_line(cell))
