"""Verbs that prove that the cluster is right: diag."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Hosts, Json, Set, Wait, app
from r1deploy.ui import lines


class Tried(StrEnum):
    """What ``diag`` looks at."""

    CHIPS = "chips"
    KERNELS = "kernels"
    NETWORK = "network"
    ALL = "all"


@app.command("diag")
def diag_command(
    part: Annotated[Tried, typer.Argument(help="What to verify.")] = Tried.ALL,
    folder: Folder = HERE,
    host: Hosts = None,
    json: Json = False,
    wait: Wait = False,
    sets: Set = None,
) -> None:
    """Verify chips, kernels and network in the containers, before the weights are loaded; nothing of it stays."""
    from r1deploy.cli.opening import open_run
    from r1deploy.planning.diagrecord import PARTS
    from r1deploy.ui.diaglines import diag_lines
    from r1deploy.ui.diaglive import Told
    from r1deploy.ui.live import progress
    from r1deploy.verbs.diag import diag

    with progress() as shown:
        run = open_run(folder, None, sets, shown, wait=wait)
        done = diag(run, [one for one in PARTS if part in (one, Tried.ALL)], host, Told(shown))
    error = done.error()
    if json:
        lines.document(done.document())
    else:
        lines.show(*diag_lines(done))
    if error:
        error.evidence = ()  # each finding stands above
        lines.say("\n".join(lines.error_lines(error)))
        raise typer.Exit(error.exit_code)
