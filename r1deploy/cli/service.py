"""Verbs about the running service: serve, stop, status, logs."""

from __future__ import annotations

from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Json, Set, app, flags_of
from r1deploy.ui import lines
from r1deploy.ui.live import progress


@app.command()
def serve(folder: Folder = HERE, json: Json = False, sets: Set = None) -> None:
    """Start or switch the service; prints the endpoint and one real answer."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.serve import serve as act
    from r1deploy.journal import Journal

    context = open_context(folder, None, flags_of(sets))
    with progress() as shown:
        done = act(context, Journal(context.settings.cluster, "serve", shown.event), lines.say, shown.bar)
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
