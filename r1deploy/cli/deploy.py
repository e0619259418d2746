"""Verbs that bring hosts to a release: preflight, plan, bootstrap."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Inventory, Json, Set, Verbose, Wait, agreed, app
from r1deploy.cli.outcome import report
from r1deploy.ui import lines, planlines
from r1deploy.ui.live import progress


class Locked(StrEnum):
    """What ``--upgrade`` resolves anew."""

    ALL = "all"
    FLAGGEMS = "flaggems"
    FLAGSCALE = "flagscale"
    IMAGE = "image"


Upgrade = Annotated[
    list[Locked] | None,
    typer.Option("--upgrade", help="Resolve anew: all (the default), or one by name.", show_default=False),
]


def upgrades(given: list[Locked] | None) -> frozenset[str]:
    """Names of locked inputs to resolve anew."""
    names = {name.value for name in given or []}
    return frozenset({"flaggems", "flagscale", "image"} if "all" in names else names)


@app.command("preflight")
def preflight_command(
    inventory: Inventory = None, folder: Folder = HERE, json: Json = False, verbose: Verbose = False, sets: Set = None
) -> None:
    """Check the hosts, the key and the git refs; read-only."""
    from r1deploy.cli.opening import open_run
    from r1deploy.observe.context import remember_inventory
    from r1deploy.verbs.preflight import preflight

    run = open_run(folder, inventory, sets)
    report(preflight(run), json, verbose)
    remember_inventory(run.context, lines.say)


@app.command("plan")
def plan_command(
    inventory: Inventory = None,
    folder: Folder = HERE,
    json: Json = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say what differs inside files, and why the rest stays as it is.")
    ] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 10 where something would change.")] = False,
    upgrade: Upgrade = None,
    sets: Set = None,
) -> None:
    """Say what bootstrap would change where, and why; changes nothing."""
    from r1deploy.cli.opening import open_run
    from r1deploy.observe.context import remember_inventory
    from r1deploy.runlock import sentence
    from r1deploy.ui.plans import plan_document, planned_lines
    from r1deploy.verbs.plan import plan

    run = open_run(folder, inventory, sets)
    planned = plan(run, upgrades(upgrade), files=verbose and not json)
    if planned.busy:
        lines.say("\n".join(lines.wrap(f"{sentence(planned.busy)}: this is what is left for it to do", "", "  ")))
    if json:
        lines.document(plan_document(planned))
    else:
        lines.show(*planned_lines(planned, verbose))
    remember_inventory(run.context, lines.say)
    if exit_code and planned.view.plan.changes:
        raise typer.Exit(10)


@app.command("bootstrap")
def bootstrap_command(
    inventory: Inventory = None,
    folder: Folder = HERE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    only_check: Annotated[bool, typer.Option("--check", help="Only plan.")] = False,
    upgrade: Upgrade = None,
    limit: Annotated[str | None, typer.Option(help="Only these hosts, comma-separated; the head among them.")] = None,
    skip_unreachable: Annotated[
        bool, typer.Option("--skip-unreachable", help="Go on without workers that do not answer.")
    ] = False,
    wait: Wait = False,
    bundle: Annotated[Path | None, typer.Option(help="Take all from this bundle; no internet is needed.")] = None,
    verbose: Verbose = False,
    sets: Set = None,
) -> None:
    """Bring every host to the wanted release; the running service is not touched."""
    from r1deploy.cli.opening import open_run, with_bundle
    from r1deploy.observe.context import remember_inventory
    from r1deploy.observe.view import View
    from r1deploy.verbs.bootstrap import Options, bootstrap, check
    from r1deploy.verbs.plan import causes, moves

    shown = progress()
    run = with_bundle(open_run(folder, inventory, sets, shown, wait=wait), bundle)
    options = Options(upgrades(upgrade), limit, skip_unreachable)

    def confirm(view: View) -> None:
        lines.say(
            "\n".join(
                [*planlines.cause_lines(causes(view), moves(run, view)), *planlines.plan_lines(view.plan, verbose)]
            )
        )
        agreed("Go on?", yes)

    if only_check:
        lines.show(*planlines.plan_lines(check(run, options).plan, verbose))
    else:
        with shown:
            done = bootstrap(run, options, confirm)
        # Not before the table is closed: it would be drawn over.
        lines.show(*planlines.done_lines(done.applied, done.view, verbose))
    remember_inventory(run.context, lines.say)


@app.command("reset")
def reset_command(
    folder: Folder = HERE,
    yes: Annotated[
        str | None, typer.Option("--yes", metavar="NAME", help="The cluster's name, instead of being asked for it.")
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Remove the vendor's image too.")] = False,
    wait: Wait = False,
    sets: Set = None,
) -> None:
    """Remove everything of the cluster from its hosts; the weights stay."""
    from r1deploy.cli.opening import open_run
    from r1deploy.errors import UsageError
    from r1deploy.verbs.reset import reset

    run = open_run(folder, None, sets, lines.Progress(), wait=wait)
    name = yes
    if name is None:
        if not sys.stdin.isatty():
            fix = f"r1deploy reset --yes {run.settings.cluster}"
            raise UsageError("RESET_NAME", "reset asks for the cluster's name, and there is no terminal", fix=fix)
        name = typer.prompt("This ends the service and removes all releases. The cluster's name")
    hosts = reset(run, name, images=images)
    lines.show(f"Removed {run.settings.cluster} from {lines.counted(hosts, 'host')}.")
