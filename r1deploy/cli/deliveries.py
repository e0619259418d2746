"""Verbs about what the vendor delivers by mail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Json, Set, app, flags_of
from r1deploy.cli.outcome import report

vendor_app = typer.Typer(help="What the vendor delivers by mail.", no_args_is_help=True)
app.add_typer(vendor_app, name="vendor")


@vendor_app.callback()
def vendor() -> None:
    """What the vendor delivers by mail."""


@vendor_app.command("check")
def vendor_check(
    delivery: Annotated[
        Path, typer.Argument(help="Folder with the image's tarball, the key, the weights.", metavar="DIR")
    ],
    folder: Folder = HERE,
    without: Annotated[
        list[str] | None, typer.Option(help="A part that is not in this delivery: image, key or weights.")
    ] = None,
    json: Json = False,
    sets: Set = None,
) -> None:
    """Say whether a delivery is complete, whole and of the locked commits; asks no host."""
    from r1deploy.ui.transfer import Transfer
    from r1deploy.verbs.vendor import check

    findings = check(folder, delivery, flags_of(sets), frozenset(without or ()), Transfer("read").bar)
    report(findings, json, whole="delivery")
