"""Verbs that reach into the cluster from here: exec, shell, tunnel."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Set, app, flags_of
from r1deploy.ui import lines
from r1deploy.ui.terminal import say_stream, show_stream

Host = Annotated[str | None, typer.Option(help="Only this host.")]


@app.command("exec")
def exec_(
    command: Annotated[list[str], typer.Argument(help="The command, after --.", metavar="-- COMMAND")],
    folder: Folder = HERE,
    host: Host = None,
    sets: Set = None,
) -> None:
    """Run a command in our container on all hosts; the exit code is the highest of theirs.

    Standard input goes to the command with --host, or where there is one host only; else it gets none.
    """
    from r1deploy.actions.context import open_context
    from r1deploy.actions.remote import execute

    stdin = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer
    context = open_context(folder, None, flags_of(sets))
    code = execute(context, command, host, show_stream, say_stream, stdin)
    raise typer.Exit(code)


@app.command()
def shell(folder: Folder = HERE, host: Host = None, sets: Set = None) -> None:
    """An interactive shell in our container, on the head unless --host says otherwise."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.remote import shell as act
    from r1deploy.errors import UsageError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("TTY_MISSING", "shell needs a terminal", fix="r1deploy exec -- COMMAND")
    raise typer.Exit(act(open_context(folder, None, flags_of(sets)), host))


@app.command()
def tunnel(
    folder: Folder = HERE,
    port: Annotated[int, typer.Option(help="Port here; 0: a free one.", min=0, max=65535)] = 0,
    sets: Set = None,
) -> None:
    """Bring the endpoint to a port of this machine over SSH, until Ctrl-C."""
    from r1deploy.actions.context import open_context
    from r1deploy.actions.remote import tunnel as act

    def ready(url: str) -> None:
        lines.show(f"{url}/v1")
        lines.say("Ctrl-C ends the tunnel.")

    act(open_context(folder, None, flags_of(sets)), port, ready)
