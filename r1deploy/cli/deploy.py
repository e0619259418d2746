"""Verbs that bring hosts to a release: preflight, plan, bootstrap."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Inventory, Json, Set, Verbose, Wait, agreed, app, flags_of
from r1deploy.ui import lines
from r1deploy.ui.choicelines import choice_lines
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


@app.command()
def preflight(
    given: Inventory = None, folder: Folder = HERE, json: Json = False, verbose: Verbose = False, sets: Set = None
) -> None:
    """Check the hosts, the key and the git refs; read-only."""
    from r1deploy.actions.context import open_context, remember_inventory
    from r1deploy.actions.preflight import preflight as act

    context = open_context(folder, given, flags_of(sets))
    checks = act(context, lines.say)
    failed = [check for check in checks if not check.ok]
    if json:
        lines.document({"ok": not failed, "checks": lines.check_rows(checks)})
    else:
        lines.show(*lines.check_lines(checks, verbose), lines.verdict(checks))
    if failed:
        reachable = all(check.name != "reachable" for check in failed)
        raise typer.Exit(5 if reachable else 4)
    remember_inventory(context, lines.say)


@app.command()
def plan(
    given: Inventory = None,
    folder: Folder = HERE,
    json: Json = False,
    verbose: Verbose = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 10 where something would change.")] = False,
    upgrade: Upgrade = None,
    sets: Set = None,
) -> None:
    """Say what bootstrap would change where, and why; changes nothing."""
    from dataclasses import asdict

    from r1deploy.actions.choices import choices
    from r1deploy.actions.context import open_context, remember_inventory
    from r1deploy.actions.look import beside, lock_of, look, refuse_unreachable, run_of
    from r1deploy.runlock import sentence
    from r1deploy.settings.lockfile import moved, read

    context = open_context(folder, given, flags_of(sets))
    view = beside(look(context, lock_of(context, upgrades(upgrade), lines.say)))
    refuse_unreachable(view.probed)
    run = run_of(view)
    if run:
        lines.say("\n".join(lines.wrap(f"{sentence(run)}: this is what is left for it to do", "", "  ")))
    locks = moved(read(context.lock_path), view.lock)
    if json:
        blockers = [asdict(check) | {"blocks": sorted(check.blocks)} for check in view.plan.checks if not check.ok]
        warnings = lines.check_rows(check for check in view.plan.checks if check.warning)
        lines.document(
            {
                "release": view.desired.release.id,
                "run": run,
                "locks": [dict(zip(("name", "current", "desired", "ref"), row, strict=True)) for row in locks],
                "changes": [asdict(row) for row in view.plan.changes],
                "noops": [asdict(row) for row in view.plan.noops],
                "blockers": blockers,
                "warnings": warnings,
                "choices": [asdict(row) for row in choices(context, view)],
            }
        )
    else:
        lines.show(*lines.moved_lines(locks), *lines.plan_lines(view.plan, verbose))
        lines.show(*choice_lines(choices(context, view)))
        failed = lines.check_lines((check for check in view.plan.checks if not check.ok), False)
        if failed:
            lines.show("Blockers:", *failed)
        warned = lines.check_lines((check for check in view.plan.checks if check.warning), False)
        if warned:
            lines.show("Warnings:", *warned)
    remember_inventory(context, lines.say)
    if exit_code and view.plan.changes:
        raise typer.Exit(10)


@app.command()
def bootstrap(
    given: Inventory = None,
    folder: Folder = HERE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only plan.")] = False,
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
    from r1deploy.actions.bootstrap import Options, considered
    from r1deploy.actions.bootstrap import bootstrap as act
    from r1deploy.actions.bundle import use
    from r1deploy.actions.context import open_context, remember_inventory
    from r1deploy.actions.look import View
    from r1deploy.journal import Journal
    from r1deploy.settings.lockfile import moved, read

    context = open_context(folder, given, flags_of(sets))
    if bundle:
        context = use(context, bundle, lines.say)
    options = Options(upgrades(upgrade), limit, skip_unreachable, wait)
    if check:
        lines.show(*lines.plan_lines(considered(context, options, lines.say).plan, verbose))
        remember_inventory(context, lines.say)
        return

    def confirm(view: View) -> None:
        locks = moved(read(context.lock_path), view.lock)
        lines.say("\n".join([*lines.moved_lines(locks), *lines.plan_lines(view.plan, verbose)]))
        agreed("Go on?", yes)

    with progress() as shown:
        journal = Journal(context.settings.cluster, "bootstrap", shown.event)
        done = act(context, options, confirm, journal, lines.say)
    lines.show(*lines.done_lines(done.applied, done.view, verbose))
    remember_inventory(context, lines.say)


@app.command()
def reset(
    folder: Folder = HERE,
    yes: Annotated[
        str | None, typer.Option("--yes", metavar="NAME", help="The cluster's name, instead of being asked for it.")
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Remove the vendor's image too.")] = False,
    wait: Wait = False,
    sets: Set = None,
) -> None:
    """Remove everything of the cluster from its hosts; the weights stay."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.reset import reset as act
    from r1deploy.errors import UsageError
    from r1deploy.journal import Journal

    context = open_context(folder, None, flags_of(sets))
    name = yes
    if name is None:
        if not sys.stdin.isatty():
            fix = f"r1deploy reset --yes {context.settings.cluster}"
            raise UsageError("RESET_NAME", "reset asks for the cluster's name, and there is no terminal", fix=fix)
        name = typer.prompt("This ends the service and removes all releases. The cluster's name")
    journal = Journal(context.settings.cluster, "reset", lines.Progress().event)
    hosts = act(context, name, journal, lines.say, images=images, wait=wait)
    lines.show(f"Removed {context.settings.cluster} from {lines.counted(hosts, 'host')}.")
