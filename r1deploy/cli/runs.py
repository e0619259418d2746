"""Verbs about runs: the cluster's lock, and the history."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from r1deploy.cli.app import HERE, Folder, Json, Set, agreed, app
from r1deploy.ui import lines

lock_app = typer.Typer(help="Who holds the cluster.", no_args_is_help=True)
app.add_typer(lock_app, name="lock")


@lock_app.command("status")
def lock_status(folder: Folder = HERE, json: Json = False, sets: Set = None) -> None:
    """Who holds the cluster, from where, since when, doing what."""
    from r1deploy.cli.opening import open_run
    from r1deploy.runlock import sentence
    from r1deploy.verbs.lock import status

    held = status(open_run(folder, None, sets))
    if json:
        lines.document({"held": held is not None, "by": held})
    else:
        lines.show(*lines.wrap(sentence(held) if held else "Nobody holds the cluster.", "", "  "))


@lock_app.command("release")
def lock_release(
    folder: Folder = HERE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    sets: Set = None,
) -> None:
    """End another run's hold: that run stops as soon as it notices."""
    from r1deploy.cli.opening import open_run
    from r1deploy.runlock import sentence
    from r1deploy.verbs.lock import release

    def confirm(held: dict[str, Any]) -> None:
        lines.say("\n".join(lines.wrap(sentence(held), "", "  ")))
        agreed("The run that holds the cluster will stop where it is. Release it?", yes)

    ended = release(open_run(folder, None, sets), confirm)
    lines.show(*lines.wrap(f"Released: {sentence(ended)}" if ended is not None else "Nobody held it.", "", "  "))


@app.command("history")
def history_command(folder: Folder = HERE, json: Json = False, sets: Set = None) -> None:
    """Runs that changed the cluster, from any machine; with the log of those from this one."""
    from r1deploy.cli.opening import open_run
    from r1deploy.verbs.history import history

    rows = history(open_run(folder, None, sets))
    if json:
        lines.document(rows)
        return
    for row in rows:
        where = (
            f"{row['who']} from {row['from']}"
            if row["hosts"]
            else "written down on no host: it was interrupted or refused"
        )
        said = f"{row['time']}  {row['verb']:<9} {row['result']:<14} {where}"
        lines.show(*lines.wrap(said, "", "    "))
        if row["log"]:
            lines.show(f"    {row['log']}")
    if not rows:
        lines.show("No run has changed this cluster.")
