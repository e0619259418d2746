"""The one place that turns an error into a message and an exit code."""

from __future__ import annotations

import sys
import traceback

from r1deploy.cli import (  # noqa: F401 - each adds its verbs to the app
    bundle,
    deploy,
    files,
    lab,
    remote,
    runs,
    service,
    vendor,
    weights,
)
from r1deploy.cli.app import app
from r1deploy.errors import R1Error
from r1deploy.ui import lines


def main() -> None:
    """Entry point of ``r1deploy``: runs the app, maps errors to exit codes."""
    try:
        app(upgrade_all(sys.argv[1:]))
    except R1Error as error:
        if "--json" in sys.argv:
            lines.document({"ok": False, "error": error.to_dict()})
        for line in lines.error_lines(error):
            lines.say(line)
        sys.exit(error.exit_code)
    except Exception as error:
        sys.exit(report_bug(error))


def upgrade_all(arguments: list[str]) -> list[str]:
    """``--upgrade`` without a name means all: Typer has no options with an optional value."""
    names = {name.value for name in deploy.Locked}
    return [
        "--upgrade=all" if word == "--upgrade" and not names.intersection(arguments[at + 1 : at + 2]) else word
        for at, word in enumerate(arguments)
    ]


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
