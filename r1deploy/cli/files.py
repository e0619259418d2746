"""Verbs about files here: settings, inventory, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Set, app, flags_of
from r1deploy.ui import lines


@app.command("init")
def init_command(
    hostfile: Annotated[
        Path | None, typer.Argument(help="FlagScale hostfile.", metavar="HOSTFILE", show_default=False)
    ] = None,
    folder: Folder = HERE,
    profile: Annotated[str | None, typer.Option(help="Vendor profile.", show_default=False)] = None,
) -> None:
    """Write r1deploy.yaml, inventory.ini and .gitignore, never over existing files."""
    from r1deploy.verbs.init import init

    lines.show(*init(folder, hostfile, profile))


@app.command("inventory")
def inventory_command(
    source: Annotated[Path, typer.Argument(help="A hostfile; with --hostfile an inventory.", metavar="FILE")],
    hostfile: Annotated[bool, typer.Option("--hostfile", help="The other way: print a hostfile.")] = False,
    folder: Folder = HERE,
) -> None:
    """Print the inventory for a hostfile, or the hostfile for an inventory."""
    from r1deploy.verbs.inventory import hostfile_of, inventory_of

    lines.show(hostfile_of(source, folder) if hostfile else inventory_of(source), end="")


@app.command("config")
def config_command(
    folder: Folder = HERE,
    sources: Annotated[bool, typer.Option("--sources", help="Say where each value comes from.")] = False,
    sets: Set = None,
) -> None:
    """Print the merged settings."""
    from r1deploy.settings.example import flow
    from r1deploy.verbs.config import config

    cells = [
        (path, flow(value), where if where.startswith(kind) else f"{kind} {where}".strip())
        if sources
        else (path, flow(value))
        for path, value, kind, where in config(folder, flags_of(sets))
    ]
    lines.show(*lines.table(cells))


@app.command("export")
def export_command(
    target: Annotated[Path, typer.Argument(help="New folder.", metavar="DIR")], folder: Folder = HERE, sets: Set = None
) -> None:
    """Write a folder that plain ansible-playbook runs to the same state; no secret is in it."""
    from r1deploy.cli.opening import open_run
    from r1deploy.verbs.export import export

    lines.show(*export(open_run(folder, None, sets), target))
