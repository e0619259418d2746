"""The verb about answers: eval."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from r1deploy.cli.app import HERE, Folder, Json, Set, app, flags_of
from r1deploy.ui import lines

if TYPE_CHECKING:
    from r1deploy.ui.evaltables import Table
    from r1deploy.verbs.evaluate import Compared, Evaluated, Wanted

SUFFIXES = (".md", ".html")


@app.command("eval")
def eval_command(
    folder: Folder = HERE,
    only: Annotated[
        str | None, typer.Option("--sets", help="Of gsm8k,mmlu,ceval,math_500,gpqa_diamond,aime24; by default all.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions of each subject.", min=1)] = None,
    repeats: Annotated[int, typer.Option(help="Answers to each question, each with a seed.", min=1, max=1024)] = 1,
    against: Annotated[str | None, typer.Option(help="URL of a second endpoint that is asked the same.")] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two kept runs, by id or file; nobody is asked.", metavar="A B")
    ] = None,
    show: Annotated[str | None, typer.Option(help="A kept run, by id or file; nobody is asked.", metavar="RUN")] = None,
    list_: Annotated[bool, typer.Option("--list", help="The kept runs.")] = False,
    install: Annotated[bool, typer.Option("--install", help="Install evalscope, apart from r1deploy; once.")] = False,
    fetch: Annotated[
        Path | None, typer.Option(help="Write the sets as folders, for eval.data of a site without internet.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the tables too: FILE.md or FILE.html.")] = None,
    json: Json = False,
    sets: Set = None,
) -> None:
    """Ask what serves the questions of six benchmarks, and judge the scores against the vendor's page.

    An interrupted run goes on with the same command, and asks no answered question twice.
    """
    from r1deploy.verbs.evaluate import Wanted, kept

    if sum((row is not None for row in (against, compare, show, fetch)), start=list_ + install) > 1:
        raise typer.BadParameter("--against, --compare, --show, --list, --install, --fetch: one at a time")
    if out is not None:
        _writable(out)
    wanted = Wanted(only, limit, repeats)
    if install:
        _installed(folder, sets, json)
    elif fetch is not None:
        _fetched(folder, sets, only, fetch.absolute(), json)
    elif list_:
        _listed(json)
    elif compare is not None or against is not None:
        _both(_pair(folder, sets, compare or against or "", wanted), json, out)
    else:
        _one(kept(show) if show is not None else _asked(folder, sets, wanted), json, out)


def _writable(out: Path) -> None:
    """Refuse a file that cannot be written now, not after hours of asking. Raises typer.BadParameter."""
    if out.suffix not in SUFFIXES:
        raise typer.BadParameter("--out takes FILE.md or FILE.html")
    if not out.parent.is_dir() or out.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise typer.BadParameter(f"--out: {out} cannot be written: name a file in a folder that is there and yours")


def _installed(folder: Path, sets: list[str] | None, json: bool) -> None:
    from r1deploy.verbs.evaluate import install

    fresh, place = install(folder, flags_of(sets), lines.say)
    _said({"installed": fresh, "folder": str(place)}, f"evalscope {'is' if fresh else 'was'} installed: {place}", json)


def _fetched(folder: Path, sets: list[str] | None, only: str | None, target: Path, json: bool) -> None:
    from r1deploy.verbs.evaluate import fetch_sets

    names = fetch_sets(folder, flags_of(sets), only, target, lines.say)
    _said({"folder": str(target), "sets": names}, f"{', '.join(names)}: in {target}, for eval.data there", json)


def _said(document: dict[str, Any], text: str, json: bool) -> None:
    if json:
        lines.document(document)
    else:
        lines.show(text)


def _listed(json: bool) -> None:
    from r1deploy.assurance.evalkept import every_kept

    runs = every_kept()
    if json:
        lines.document([run.model_dump(exclude={"scores"}) for run in runs])
        return
    for run in runs:
        lines.show(f"{run.id}  {run.cluster}  {run.release or run.endpoint}  {', '.join(run.sets())}")
    if not runs:
        lines.show("No run of eval is kept here.")


def _asked(folder: Path, sets: list[str] | None, wanted: Wanted) -> Evaluated:
    from r1deploy.cli.opening import open_run
    from r1deploy.ui.evalbars import EvalBars
    from r1deploy.verbs.evaluate import evaluate

    return evaluate(open_run(folder, None, sets, EvalBars()), wanted)


def _pair(folder: Path, sets: list[str] | None, other: str | tuple[str, str], wanted: Wanted) -> Compared:
    """Two kept runs, or the cluster and the endpoint of a URL, which are asked."""
    from r1deploy.cli.opening import open_run
    from r1deploy.ui.evalbars import EvalBars
    from r1deploy.verbs.evaluate import against, compare_kept

    if isinstance(other, tuple):
        return compare_kept(*other)
    return against(open_run(folder, None, sets, EvalBars()), other, wanted)


def _one(done: Evaluated, json: bool, out: Path | None) -> None:
    """A run beside the page's columns, judged."""
    from r1deploy.ui import evaltables
    from r1deploy.ui.evaldocument import column_document, judgement_document

    tables = [
        evaltables.scores(done.column, done.beside),
        *(evaltables.verdicts(judged) for judged in done.judged),
    ]
    document = {
        "columns": [column_document(column) for column in (done.column, *done.beside)],
        "judgements": [judgement_document(judged) for judged in done.judged],
    }
    _shown(document, tables, json, out)


def _both(done: Compared, json: bool, out: Path | None) -> None:
    """Two runs, question by question."""
    from r1deploy.ui import evaltables
    from r1deploy.ui.evaldocument import comparison_document

    document = comparison_document(done.comparison) | {"flips_file": str(done.flips) if done.flips else None}
    _shown(document, evaltables.comparison(done.comparison), json, out)
    if done.flips and not json:
        lines.show(f"Both answers to each question that flipped: {done.flips}")


def _shown(document: dict[str, Any], tables: list[Table], json: bool, out: Path | None) -> None:
    from r1deploy.ui import evaltables

    if out is not None:
        markdown = out.suffix == ".md"
        text = evaltables.markdown(tables) if markdown else evaltables.page("Evaluation", tables)
        out.write_text(text, encoding="utf-8")
    if json:
        lines.document({"ok": True, **document})
        return
    for table in tables:
        lines.show(*evaltables.text(table), "")
