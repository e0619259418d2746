"""Verbs that bring hosts to a release: preflight, plan, bootstrap."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Inventory, Json, Set, Verbose, app, flags_of
from r1deploy.ui import lines


@app.command()
def preflight(
    given: Inventory = None, folder: Folder = HERE, json: Json = False, verbose: Verbose = False, sets: Set = None
) -> None:
    """Check the hosts, the key and the git refs; read-only."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.preflight import preflight as act

    checks = act(open_context(folder, given, flags_of(sets)), lines.say)
    failed = [check for check in checks if not check.ok]
    if json:
        rows = [
            {
                "name": check.name,
                "host": check.host,
                "ok": check.ok,
                "detail": check.detail,
                "fix": None if check.ok else check.fix,
                "code": check.code,
            }
            for check in checks
        ]
        lines.document({"ok": not failed, "checks": rows})
    else:
        print("\n".join([*lines.check_lines(checks, verbose), f"{len(checks)} checks, {len(failed)} failed."]))
    if failed:
        reachable = all(check.name != "reachable" for check in failed)
        raise typer.Exit(5 if reachable else 4)


@app.command()
def plan(
    given: Inventory = None,
    folder: Folder = HERE,
    json: Json = False,
    verbose: Verbose = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 10 where something would change.")] = False,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="As if with bootstrap --upgrade.")] = False,
    sets: Set = None,
) -> None:
    """Say what bootstrap would change where, and why; changes nothing."""
    from dataclasses import asdict

    from r1deploy.actions.context import open_context
    from r1deploy.actions.look import lock_of, look, refuse_unreachable

    context = open_context(folder, given, flags_of(sets))
    view = look(context, lock_of(context, ALL if upgrade else frozenset(), lines.say))
    refuse_unreachable(view.probed)
    if json:
        blockers = [asdict(check) | {"blocks": sorted(check.blocks)} for check in view.plan.checks if not check.ok]
        lines.document(
            {
                "release": view.desired.release.id,
                "changes": [asdict(row) for row in view.plan.changes],
                "noops": [asdict(row) for row in view.plan.noops],
                "blockers": blockers,
            }
        )
    else:
        print("\n".join(lines.plan_lines(view.plan, verbose)))
        failed = lines.check_lines((check for check in view.plan.checks if not check.ok), False)
        if failed:
            print("Blockers:\n" + "\n".join(failed))
    if exit_code and view.plan.changes:
        raise typer.Exit(10)


ALL = frozenset({"flaggems", "flagscale", "image"})


@app.command()
def bootstrap(
    given: Inventory = None,
    folder: Folder = HERE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only plan.")] = False,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Resolve branches, tags and the image anew.")] = False,
    limit: Annotated[str | None, typer.Option(help="Only these hosts, comma-separated; the head among them.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Take all from this bundle; no internet is needed.")] = None,
    verbose: Verbose = False,
    sets: Set = None,
) -> None:
    """Bring every host to the wanted release; the running service is not touched."""
    from r1deploy.actions.bootstrap import Options, survey
    from r1deploy.actions.bootstrap import bootstrap as act
    from r1deploy.actions.bundle import use
    from r1deploy.actions.context import open_context
    from r1deploy.actions.look import View
    from r1deploy.journal import Journal

    context = open_context(folder, given, flags_of(sets))
    if bundle:
        context = use(context, bundle, lines.say)
    options = Options(ALL if upgrade else frozenset(), limit)
    if check:
        print("\n".join(lines.plan_lines(survey(context, options, lines.say).plan, verbose)))
        return

    def confirm(view: View) -> None:
        lines.say("\n".join(lines.plan_lines(view.plan, verbose)))
        if not yes and sys.stdin.isatty():
            typer.confirm("Go on?", abort=True)

    journal = Journal(context.settings.cluster, "bootstrap", lines.Progress().event)
    done = act(context, options, confirm, journal, lines.say)
    release = done.view.desired.release.id
    if not done.applied.changes:
        if verbose:
            print("\n".join(lines.plan_lines(done.view.plan, True)))
        print(f"Nothing to do: release {release} is on all {len(done.view.desired.hosts)} hosts. Ready to serve.")
    else:
        print(f"Release {release} is on all {len(done.view.desired.hosts)} hosts, verified. Ready to serve.")
