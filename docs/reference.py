"""Write the pages that the program says of itself: ``docs/cli.md`` and ``docs/settings.md``.

``make docs`` runs it; a test compares the committed pages with what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from r1deploy.cli.app import GROUPS
from r1deploy.cli.main import app
from r1deploy.settings import profiles, schema
from r1deploy.settings.example import flow, values
from r1deploy.settings.load import from_profile
from r1deploy.settings.schema import Node

FOLDER = Path(__file__).parent
MADE = "<!-- Written by docs/reference.py (make docs). Do not edit. -->"
# A longer value is a pattern or a list: its profile shows it better than a table.
LONGEST = 48

CLI = """\
# The command line

Every verb of `r1deploy`, in the groups of `r1deploy --help`. `-h` after any verb shows the same on the terminal.
`r1deploy --install-completion` makes Tab complete verbs and options in your shell.

`-C DIR` may stand before the verb or behind it. `--set KEY=VALUE` takes any key of [settings.md](settings.md).
`--json` prints one document on standard output, also for an error; what is said on the way goes to standard error.
The exit codes are in [errors.md](errors.md#exit-codes).
"""
SETTINGS = """\
# Settings

Every key of `r1deploy.yaml`. `r1deploy init` writes the file with all of them, each with its meaning.
`r1deploy config --sources` shows each value of your cluster and where it comes from.

Of two sources for one value the first of these wins:

1. a flag: `--set engine.port=9011`; `--set KEY=null` unsets
2. the environment: `R1DEPLOY_ENGINE__PORT=9011`, two underscores between the parts of a key
3. `r1deploy.yaml`
4. the vendor's profile ([profiles.md](profiles.md))
5. the default built in

Sources are merged key by key. In mappings (`env`, `engine.extra`, …) that holds for each of their own keys, and
`null` removes one. Relative paths of this machine start at the folder of `r1deploy.yaml`. An unknown key is refused,
with the nearest right one.

The column *without it* is what r1deploy takes when you say nothing. *profile* means that the vendor's profile
decides; the value beside it is that of `PROFILE`.
"""


def cli() -> str:
    """Return the page of all verbs."""
    command: Any = typer.main.get_command(app)
    top = typer.Context(command, info_name="r1deploy")
    rows = [MADE, "", CLI]
    for group, verbs in GROUPS.items():
        rows += [f"## {group}", ""]
        for verb in verbs:
            rows += verb_lines(command.get_command(top, verb), top, verb, 3)
    return "\n".join(rows).rstrip() + "\n"


def verb_lines(command: Any, above: typer.Context, name: str, level: int) -> Iterator[str]:
    """Yield the lines of one verb, and of those below it. In: the context of what is above it."""
    context = typer.Context(command, info_name=name, parent=above)
    yield from (f"{'#' * level} {context.command_path}", "", plain(command.help), "")
    inner = command.list_commands(context) if hasattr(command, "list_commands") else []
    if not inner:
        yield from ("```", f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}", "```", "")
        rows = [param.get_help_record(context) for param in command.get_params(context) if param.name != "help"]
        found = [f"- `{said[0]}`: {plain(said[1])}" for said in rows if said]
        yield from ([*found, ""] if found else [])
    for verb in inner:
        yield from verb_lines(command.get_command(context, verb), context, verb, level + 1)


def settings() -> str:
    """Return the page of all settings."""
    taken = values(from_profile(profiles.default()))
    head = ["| key | takes | without it | meaning |", "| --- | --- | --- | --- |"]
    rows = [MADE, "", SETTINGS.replace("PROFILE", profiles.default()), "## The cluster", "", *head]
    nodes = schema.nodes().values()
    rows += [row(node, taken) for node in nodes if len(node.path) == 1 and node.kind != "section"]
    for section in (node for node in nodes if node.kind == "section"):
        rows += ["", f"## {section.path[0]}", "", title(section), "", *head]
        rows += [row(node, taken) for node in nodes if node.path[:-1] == section.path]
    return "\n".join(rows) + "\n"


def row(node: Node, taken: dict[schema.Path, object]) -> str:
    """Return the line of one key in its table."""
    profile = f"profile {shown(taken[node.path])}".strip()
    if node.field.is_required():
        without = profile
    else:
        default = node.field.get_default(call_default_factory=True)
        without = shown(default) if default == taken[node.path] else f"{shown(default)}; {profile}"
    cells = (f"`{'.'.join(node.path)}`", takes(node), without, meaning(node))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def shown(value: object) -> str:
    """Return a value as the file has it; nothing where it is too long for a table."""
    text = flow(value)
    return f"`{text}`" if len(text) <= LONGEST else ""


def takes(node: Node) -> str:
    """Return what a value must be, with its bounds."""
    annotation = node.field.annotation
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(annotation))
    said = f"keys of your own, each with {node.expected}" if node.kind == "mapping" else node.expected
    rules = node.field.metadata
    found = {name: getattr(rule, name) for rule in rules for name in ("ge", "gt", "le") if hasattr(rule, name)}
    if "le" in found:
        low = f"{found['ge']}" if "ge" in found else f"above {found['gt']}"
        return f"{said}, {low} to {found['le']}"
    return f"{said}, at least {found['ge']}" if "ge" in found else said


def meaning(node: Node) -> str:
    """Return what a key is for, with its examples."""
    examples = [f"example: `{flow(item)}`" for item in node.field.examples or ()]
    return "; ".join([plain(node.field.description or ""), *examples])


def title(section: Node) -> str:
    """Return a section's meaning as a sentence."""
    text = meaning(section)
    return f"{text[0].upper()}{text[1:]}."


def plain(text: str) -> str:
    """Return text of the program so that Markdown changes nothing in it; what stands in backticks stays."""
    parts = " ".join(text.split()).split("`")
    return "`".join(re.sub(r"([*<])", r"\\\1", part) if at % 2 == 0 else part for at, part in enumerate(parts))


PAGES = {"cli.md": cli, "settings.md": settings}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
