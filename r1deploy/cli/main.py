"""The Typer app, and the one place that turns an error into a message and an exit code."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1deploy import __version__
from r1deploy.errors import R1Error
from r1deploy.ui import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from r1deploy.lab import Lab

app = typer.Typer(
    help="From a hostfile to a served DeepSeek-R1, again and again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
lab_app = typer.Typer(help="A real cluster on this machine, to try things out.", no_args_is_help=True)
app.add_typer(lab_app, name="lab")

Folder = Annotated[Path, typer.Option("-C", "--dir", help="Folder of r1deploy.yaml and r1deploy.lock.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say why the rest stays as it is.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the settings, like engine.port=9011.")]
Inventory = Annotated[
    Path | None, typer.Argument(help="Ansible inventory or hostfile; remembered.", show_default=False)
]
HERE = Path()


def main() -> None:
    """Entry point of ``r1deploy``: runs the app, maps errors to exit codes."""
    try:
        app()
    except R1Error as error:
        if "--json" in sys.argv:
            lines.document({"ok": False, "error": error.to_dict()})
        for line in lines.error_lines(error):
            lines.say(line)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        lines.say("Interrupted.")
        sys.exit(130)
    except Exception as error:
        sys.exit(report_bug(error))


def report_bug(error: Exception) -> int:
    """A bug: the traceback goes to a file, one line to the user."""
    from r1deploy.journal import state_home

    text = "".join(traceback.format_exception(error))
    try:
        path = state_home() / "bug.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        lines.say(f"Error: BUG: {type(error).__name__}: {error}"[:200])
        lines.say(f"  Log: {path}")
    except OSError:
        lines.say(text)
    return 1


def flags_of(given: list[str] | None) -> dict[str, object]:
    """``--set`` as dotted path → value. Raises UsageError, ConfigError."""
    from r1deploy.errors import UsageError
    from r1deploy.settings.load import value_from_text

    flags: dict[str, object] = {}
    for item in given or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError("SETTINGS_VALUE", f"--set {item}: KEY=VALUE is expected", fix="--set engine.port=9011")
        flags[key] = value_from_text(key, value)
    return flags


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """From a hostfile to a served DeepSeek-R1, again and again."""
    if version:
        print(f"r1deploy {__version__}")
        raise typer.Exit


@app.command()
def init(
    hostfile: Annotated[Path | None, typer.Argument(help="FlagScale hostfile.", show_default=False)] = None,
    folder: Folder = HERE,
    profile: Annotated[str, typer.Option(help="Vendor profile.")] = "iluvatar-bi-v150",
) -> None:
    """Write r1deploy.yaml and inventory.ini, never over existing files."""
    from r1deploy.actions.init import init as act

    for line in act(folder, hostfile, profile):
        print(line)


@app.command()
def inventory(
    source: Annotated[Path, typer.Argument(help="A hostfile; with --hostfile an inventory.")],
    hostfile: Annotated[bool, typer.Option("--hostfile", help="The other way: print a hostfile.")] = False,
    folder: Folder = HERE,
) -> None:
    """Print the inventory for a hostfile, or the hostfile for an inventory."""
    from r1deploy.actions.init import hostfile_of, inventory_of

    print(hostfile_of(source, folder) if hostfile else inventory_of(source), end="")


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
    verbose: Verbose = False,
    sets: Set = None,
) -> None:
    """Bring every host to the wanted release; the running service is not touched."""
    from r1deploy.actions.bootstrap import Options, survey
    from r1deploy.actions.bootstrap import bootstrap as act
    from r1deploy.actions.context import open_context
    from r1deploy.actions.look import View
    from r1deploy.journal import Journal

    context = open_context(folder, given, flags_of(sets))
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


@app.command()
def serve(folder: Folder = HERE, json: Json = False, sets: Set = None) -> None:
    """Start or switch the service; prints the endpoint and one real answer."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.serve import serve as act
    from r1deploy.journal import Journal

    context = open_context(folder, None, flags_of(sets))
    progress = lines.Progress()
    done = act(context, Journal(context.settings.cluster, "serve", progress.event), lines.say, progress.bar)
    if json:
        lines.document(
            {
                "endpoint": done.passed.endpoint,
                "model": done.passed.model,
                "answer": done.passed.answer.text,
                "already": done.already,
            }
        )
        return
    print("Serves already." if done.already else "Serves.")
    print(f"  endpoint  {done.passed.endpoint}")
    print(f"  model     {done.passed.model}")
    print("\n".join(lines.wrap(done.passed.answer.text, "  answer    ", " " * 12)))


@app.command()
def stop(folder: Folder = HERE, sets: Set = None) -> None:
    """End the service; touches no process outside of our container."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.serve import stop as act
    from r1deploy.journal import Journal

    context = open_context(folder, None, flags_of(sets))
    stopped = act(context, Journal(context.settings.cluster, "stop", lines.Progress().event), lines.say)
    print("Stopped." if stopped else "Nothing runs.")


@app.command()
def status(folder: Folder = HERE, json: Json = False, sets: Set = None) -> None:
    """Hosts by steps, release, chips, Ray, endpoint; works with the hosts that answer."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.status import status as act

    found = act(open_context(folder, None, flags_of(sets)), lines.say)
    if json:
        lines.document(found)
    else:
        print("\n".join(lines.status_lines(found)))


@app.command()
def logs(
    folder: Folder = HERE,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as they grow.")] = False,
    host: Annotated[str | None, typer.Option(help="Only this host.")] = None,
    build: Annotated[bool, typer.Option("--build", help="Logs of unpatch, build and installation.")] = False,
    serve_: Annotated[bool, typer.Option("--serve", help="The engine's log (the default).")] = False,
    count: Annotated[int, typer.Option("-n", "--lines", help="Last lines to begin with.")] = 50,
    sets: Set = None,
) -> None:
    """Logs of all hosts, each line with its host's name."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.logs import logs as act

    act(
        open_context(folder, None, flags_of(sets)),
        print,
        host=host,
        build=build and not serve_,
        follow=follow,
        count=count,
    )


@app.command()
def config(
    folder: Folder = HERE,
    sources: Annotated[bool, typer.Option("--sources", help="Say where each value comes from.")] = False,
    sets: Set = None,
) -> None:
    """Print the merged settings."""
    import os

    from r1deploy.settings.load import load
    from r1deploy.settings.sources import rows

    found = rows(load(folder, flags_of(sets), os.environ))
    cells = [
        (path, str(value), f"{kind} {where}".strip()) if sources else (path, str(value))
        for path, value, kind, where in found
    ]
    print("\n".join(lines.table(cells)))


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="New folder.")], folder: Folder = HERE, sets: Set = None
) -> None:
    """Write a folder that plain ansible-playbook runs to the same state; no secret is in it."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.export import export as act

    for line in act(open_context(folder, None, flags_of(sets)), target, lines.say):
        print(line)


@lab_app.command("up")
def lab_up(
    hosts: Annotated[int, typer.Option(help="How many hosts.")] = 2,
    install: Annotated[bool, typer.Option(help="Install and start what is missing on this machine.")] = False,
) -> None:
    """Bring the lab up; what is there already is left as it is."""
    with_lab(lambda lab: lab.up(hosts, install, lines.say))


@lab_app.command("down")
def lab_down() -> None:
    """Remove the lab's hosts; cached images stay."""
    with_lab(lambda lab: lab.down(lines.say))


@lab_app.command("status")
def lab_status() -> None:
    """Print the state of the lab as JSON."""
    with_lab(lambda lab: lines.document(lab.status()))


def with_lab(act: Callable[[Lab], object]) -> None:
    """Run an action of the lab; its error becomes one of ours."""
    from r1deploy.errors import ApplyError
    from r1deploy.lab import Lab, LabError

    try:
        act(Lab())
    except LabError as error:
        raise ApplyError("LAB_FAILED", error.what, evidence=error.evidence.splitlines()[-8:], fix=error.fix) from error
