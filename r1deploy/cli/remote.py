"""Verbs that reach into the cluster from here: exec, shell, tunnel."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from r1deploy.cli.app import HERE, Folder, Hosts, Set, app
from r1deploy.ui import lines
from r1deploy.ui.terminal import say_stream, show_stream

Host = Annotated[str | None, typer.Option(help="Only this host.")]


@app.command("exec")
def exec_command(
    command: Annotated[list[str], typer.Argument(help="The command, after --.", metavar="-- COMMAND")],
    folder: Folder = HERE,
    host: Hosts = None,
    sets: Set = None,
) -> None:
    """Run a command in our container on all hosts; the exit code is the highest of theirs.

    Standard input goes to the command with --host, or where there is one host only; else it gets none.
    """
    from r1deploy.cli.opening import open_run
    from r1deploy.verbs.execute import Streams, execute

    stdin = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer
    streams = Streams(show_stream, say_stream, stdin)
    raise typer.Exit(execute(open_run(folder, None, sets), command, host, streams))


@app.command("shell")
def shell_command(folder: Folder = HERE, host: Host = None, sets: Set = None) -> None:
    """An interactive shell in our container, on the head unless --host says otherwise."""
    from r1deploy.cli.opening import open_run
    from r1deploy.errors import UsageError
    from r1deploy.verbs.shell import shell

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("TTY_MISSING", "shell needs a terminal", fix="r1deploy exec -- COMMAND")
    raise typer.Exit(shell(open_run(folder, None, sets), host))


@app.command("tunnel")
def tunnel_command(
    folder: Folder = HERE,
    port: Annotated[int, typer.Option(help="Port here; 0: a free one.", min=0, max=65535)] = 0,
    sets: Set = None,
) -> None:
    """Bring the endpoint to a port of this machine over SSH, until Ctrl-C."""
    from r1deploy.cli.opening import open_run
    from r1deploy.verbs.tunnel import tunnel

    def ready(url: str) -> None:
        lines.show(f"{url}/v1")
        lines.say("Ctrl-C ends the tunnel.")

    tunnel(open_run(folder, None, sets), port, ready)
