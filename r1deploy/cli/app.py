"""The Typer app, and what its families of verbs share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from r1deploy import __version__
from r1deploy.ui import streams
from r1deploy.ui.terminal import show


class Unread(Exception):
    """Nobody reads our output any more."""


# The verbs as --help and docs/cli.md show them: by what somebody wants to do.
GROUPS = {
    "Start": ("init", "config", "lab"),
    "Deploy": ("preflight", "plan", "bootstrap", "bundle", "vendor", "weights", "reset"),
    "Service": ("serve", "stop", "restart", "rollback", "releases"),
    "Look": ("status", "logs", "history"),
    "Prove": ("diag", "eval"),
    "Inside": ("exec", "shell", "tunnel"),
    "Files": ("inventory", "export", "lock"),
}


class Root(TyperGroup):
    """The program: its verbs in their groups. Typer would end on every broken pipe without a word, also on one that is
    not our output's.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of their groups; one that has no group comes last."""
        order = [name for names in GROUPS.values() for name in names]
        return sorted(self.commands, key=lambda name: order.index(name) if name in order else len(order))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb, which knows its group; None where there is none of that name."""
        command: Any = super().get_command(ctx, cmd_name)
        if command is not None:
            command.rich_help_panel = next((group for group, names in GROUPS.items() if cmd_name in names), None)
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the verb. Raises Unread."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if streams.reader_gone():
                raise Unread from error
            raise RuntimeError("a pipe broke that is not our output") from error


app = typer.Typer(
    cls=Root,
    help="From a hostfile to a served DeepSeek-R1, again and again.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

HERE = Path()


def folder_of(context: typer.Context, value: Path) -> Path:
    """The folder, whether ``-C`` stands before the verb or behind it. Raises BadParameter where the two differ."""
    before: Path | None = context.find_root().params.get("folder")
    if before is None:
        return value
    if value not in (HERE, before):
        raise typer.BadParameter(f"{value} here and {before} before the verb: which one?")
    return before


FOLDER_HELP = "Folder of r1deploy.yaml and r1deploy.lock."
Folder = Annotated[Path, typer.Option("-C", "--dir", help=FOLDER_HELP, callback=folder_of)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say why the rest stays as it is.")]
Hosts = Annotated[str | None, typer.Option("--host", help="Only these hosts, such as node[02-04],node09.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE over the settings, like engine.port=9011; KEY=null unsets.")
]
Inventory = Annotated[
    Path | None,
    typer.Argument(help="Ansible inventory or hostfile; remembered.", metavar="INVENTORY", show_default=False),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another run holds the cluster.")]


def flags_of(given: list[str] | None) -> dict[str, object]:
    """``--set`` as dotted path → value. Raises UsageError, ConfigError."""
    from r1deploy.errors import UsageError
    from r1deploy.settings.layers import value_from_text

    flags: dict[str, object] = {}
    for item in given or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError("SETTINGS_VALUE", f"--set {item}: KEY=VALUE is expected", fix="--set engine.port=9011")
        flags[key] = value_from_text(key, value)
    return flags


def agreed(question: str, yes: bool) -> None:
    """Ask before something happens on the hosts. In: ``yes``, whether the answer was given beforehand (``--yes``).

    Raises UsageError YES_MISSING without a terminal to ask at; Interrupted where the answer is no.
    """
    from rich.console import Console
    from rich.prompt import Confirm
    from rich.text import Text

    from r1deploy.errors import Interrupted, UsageError

    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        message = "this has to be agreed to, and there is no terminal to ask at; nothing was done"
        raise UsageError("YES_MISSING", message, fix="add --yes, when this is what you want")
    # Standard output may be a pipe that waits for the result: typer's own question writes a blank there.
    if not Confirm.ask(Text(question), console=Console(stderr=True, markup=False), default=False):
        raise Interrupted("INTERRUPTED", "the answer was no; nothing was done")


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    folder: Annotated[Path | None, typer.Option("-C", "--dir", help=FOLDER_HELP, show_default=False)] = None,
) -> None:
    """From a hostfile to a served DeepSeek-R1, again and again."""
    if version:
        show(f"r1deploy {__version__}")
        raise typer.Exit
