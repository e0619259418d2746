"""Verbs about bundles: all of a deployment in one file, for a site without internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Set, app, flags_of
from r1deploy.ui import lines

bundle_app = typer.Typer(help="All of a deployment in one file, for a site without internet.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")


@bundle_app.command("create")
def bundle_create(
    target: Annotated[Path, typer.Argument(help="The file to write.", metavar="FILE")],
    folder: Folder = HERE,
    with_python: Annotated[
        bool, typer.Option("--with-python", help="Add r1deploy and all that it needs, as wheels.")
    ] = False,
    with_eval: Annotated[
        bool, typer.Option("--with-eval", help="Add the sets of eval and evalscope, as they are for this Python.")
    ] = False,
    sets: Set = None,
) -> None:
    """Gather image, repositories and lock where there is internet; for bootstrap --bundle where there is none."""
    from r1deploy.verbs.bundle import create

    extras = frozenset(name for name, asked in (("python", with_python), ("eval", with_eval)) if asked)
    digest = create(folder, flags_of(sets), target, extras, lines.say)
    lines.show(f"{digest}  {target}")
