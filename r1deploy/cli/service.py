"""Verbs about the running service: serve, stop, restart, rollback, releases, status, logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from r1deploy.cli.app import HERE, Folder, Hosts, Json, Set, Wait, agreed, app
from r1deploy.ui import lines, statuslines
from r1deploy.ui.live import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from r1deploy.serving.switching import Gap, Served

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before something that serves is stopped.")]


@app.command("serve")
def serve_command(
    folder: Folder = HERE, yes: Yes = False, json: Json = False, wait: Wait = False, sets: Set = None
) -> None:
    """Start or switch the service; prints the endpoint and one real answer."""
    from r1deploy.cli.opening import open_run
    from r1deploy.verbs.serve import serve

    with progress() as shown:
        done = serve(open_run(folder, None, sets, shown, wait=wait), confirm(yes))
    show_served(done, json)


def confirm(yes: bool) -> Callable[[Gap], None]:
    """Say what stops and for how long, and ask. In: whether the answer was given beforehand."""

    def ask(gap: Gap) -> None:
        lines.say("\n".join(lines.gap_lines(gap)))
        agreed("Go on?", yes)

    return ask


def show_served(done: Served, json: bool) -> None:
    """The endpoint and the answer that proves it."""
    if json:
        lines.document(
            {
                "endpoint": done.passed.endpoint,
                "model": done.passed.model,
                "answer": done.passed.answer.text,
                "reasoning": done.passed.answer.reasoning,
                "tokens": done.passed.answer.tokens,
                "already": done.already,
                "switch": done.switched.model_dump() if done.switched else None,
                "warnings": lines.check_rows(done.warnings),
            }
        )
        return
    lines.show("Serves already." if done.already else "Serves.")
    lines.show(f"  endpoint  {done.passed.endpoint}")
    lines.show(f"  model     {done.passed.model}")
    lines.show(*lines.wrap(done.passed.answer.shown, "  answer    ", " " * 12))
    if done.switched:
        from r1deploy.planning.switchtime import took

        lines.show(*lines.wrap(took(done.switched), "  time      ", " " * 12))
    if done.warnings:
        lines.say("\n".join(["Warnings:", *lines.check_lines(done.warnings, False)]))


@app.command("stop")
def stop_command(folder: Folder = HERE, wait: Wait = False, sets: Set = None) -> None:
    """End the service; touches no process outside of our container."""
    from r1deploy.cli.opening import open_run
    from r1deploy.verbs.stop import stop

    done = stop(open_run(folder, None, sets, lines.Progress(), wait=wait))
    done.refuse_unknown()
    lines.show("Stopped." if done.hosts else "Nothing runs.")


@app.command("restart")
def restart_command(folder: Folder = HERE, json: Json = False, wait: Wait = False, sets: Set = None) -> None:
    """End the service and start it again; prints one real answer."""
    from r1deploy.cli.opening import open_run
    from r1deploy.verbs.restart import restart

    with progress() as shown:
        done = restart(open_run(folder, None, sets, shown, wait=wait))
    show_served(done, json)


@app.command("rollback")
def rollback_command(
    release: Annotated[
        str | None,
        typer.Argument(help="RELEASE or RELEASE/CONFIG, or a beginning of it.", metavar="RELEASE", show_default=False),
    ] = None,
    folder: Folder = HERE,
    yes: Yes = False,
    json: Json = False,
    wait: Wait = False,
    sets: Set = None,
) -> None:
    """Serve a former release again: checked on every host before any is touched."""
    from r1deploy.cli.opening import open_run
    from r1deploy.verbs.rollback import rollback

    with progress() as shown:
        done = rollback(open_run(folder, None, sets, shown, wait=wait), release, confirm(yes))
    show_served(done, json)


@app.command("releases")
def releases_command(folder: Folder = HERE, json: Json = False, sets: Set = None) -> None:
    """The releases on the hosts: which one is active, which ones rollback can take."""
    from r1deploy.cli.opening import open_run
    from r1deploy.planning.switchtime import took
    from r1deploy.verbs.releases import releases

    rows = releases(open_run(folder, None, sets))
    if json:
        lines.document(
            [
                {
                    "name": row.name,
                    "state": row.state,
                    "problems": row.problems,
                    "switch": row.switched.model_dump() if row.switched else None,
                    **row.record.model_dump(),
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        lines.show(f"{row.name}  {row.state:<9} {'whole' if not row.problems else ''}".rstrip())
        for problem in row.problems:
            lines.show(*lines.wrap(problem, "    ", "    "))
        if row.switched:
            lines.show(*lines.wrap(took(row.switched), f"    {row.switched.at}  ", "      "))
    if not rows:
        lines.show("No release is on the hosts.")


@app.command("status")
def status_command(
    folder: Folder = HERE,
    json: Json = False,
    probe: Annotated[bool, typer.Option("--probe", help="Ask the service for a token too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds, until Ctrl-C.")] = False,
    sets: Set = None,
) -> None:
    """Hosts by steps, release, chips, Ray, endpoint; works with the hosts that answer."""
    from r1deploy.cli.opening import open_run
    from r1deploy.errors import UnreachableError
    from r1deploy.ui.live import watched
    from r1deploy.verbs.status import status

    def look() -> dict[str, Any]:
        return status(open_run(folder, None, sets), token=probe)

    if json and watch:
        raise typer.BadParameter("--watch draws for people, --json is one document: leave out one")
    if watch:
        watched(lambda: statuslines.status_lines(look()))
        return
    answer = look()
    if json:
        lines.document(answer)
    else:
        lines.show(*statuslines.status_lines(answer))
    if all(row["error"] for row in answer["hosts"]):
        raise typer.Exit(UnreachableError.exit_code)


@app.command("logs")
def logs_command(
    folder: Folder = HERE,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as they grow.")] = False,
    host: Hosts = None,
    build: Annotated[bool, typer.Option("--build", help="Logs of unpatch, build and installation.")] = False,
    serve_: Annotated[bool, typer.Option("--serve", help="The engine's log (the default).")] = False,
    count: Annotated[int, typer.Option("-n", "--lines", help="How many of the last lines to begin with.")] = 50,
    sets: Set = None,
) -> None:
    """Logs of all hosts, each line with the names of the hosts that say it.

    Of three hosts or more equal lines stand together, also where the time, the host's own name and addresses differ.
    """
    from r1deploy.cli.opening import open_run
    from r1deploy.ui.loglines import LogLines
    from r1deploy.verbs.logs import Wanted, logs

    shown = LogLines()
    logs(open_run(folder, None, sets), Wanted(host, build and not serve_, follow, count), shown.begin)
    for row in shown.summary():
        lines.say(row)
