"""The one place that turns an error into a message and an exit code."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import typer
from typer.exceptions import TyperException

from r1deploy.cli import (  # noqa: F401 - each adds its verbs to the app
    bundles,
    checkpoints,
    deliveries,
    deploy,
    evaluations,
    files,
    labs,
    proofs,
    remote,
    runs,
    service,
)
from r1deploy.cli.app import Unread, app
from r1deploy.errors import Interrupted, R1Error, UsageError
from r1deploy.settings import redact
from r1deploy.signals import Interrupts, Stopped
from r1deploy.ui import lines, streams

# A question that was answered with no, or with the end of the input.
STOPPED = Interrupted("INTERRUPTED", "not confirmed; nothing was changed")


def main() -> None:
    """Entry point of ``r1deploy``: runs the app, maps errors and signals to exit codes."""
    streams.fit()
    try:
        code = run(sys.argv[1:])
        for stream in streams.streams():
            stream.flush()
    except BrokenPipeError:
        code = streams.closed()
    except SystemExit as stop:
        # So Typer and rich end where the reader of --help goes away.
        if stop.code != 1:
            raise
        code = streams.closed()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code. Errors are said here. Raises BrokenPipeError where nobody reads us."""
    json = "--json" in ours(arguments)
    try:
        with Interrupts():
            # None where a verb ended, a number where it asked for that exit code.
            return int(app(upgrade_all(arguments), prog_name="r1deploy", standalone_mode=False) or 0)
    except Stopped as stop:
        return report(stop.error(), json)
    except R1Error as error:
        return report(error, json)
    except TyperException as error:
        return report(usage(error), json) if str(error) else UsageError.exit_code  # its help was printed
    except typer.Abort:
        return report(STOPPED, json)
    except BrokenPipeError:
        raise
    except Unread as error:
        raise BrokenPipeError from error
    except Exception as error:
        if json:
            lines.document({"ok": False, "error": R1Error("BUG", bug_of(error)).to_dict()})
        return report_bug(error)


def report(error: R1Error, json: bool) -> int:
    """Say an error, with ``--json`` as one document too; its exit code."""
    if json:
        lines.document({"ok": False, "error": error.to_dict()})
    for line in lines.error_lines(error):
        lines.say(line)
    return error.exit_code


def usage(error: TyperException) -> UsageError:
    """What the parser of the command line refuses, as an error of ours."""
    where = getattr(error, "ctx", None)  # not every one was met inside of a command
    return UsageError("USAGE", error.format_message(), fix=f"{where.command_path if where else 'r1deploy'} --help")


def ours(arguments: list[str]) -> list[str]:
    """The words that are for r1deploy; behind ``--`` stands a command for the container."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def upgrade_all(arguments: list[str]) -> list[str]:
    """``--upgrade`` without a name means all: Typer has no options with an optional value.

    What follows it is a name, unless it is an option or the path of an inventory.
    """
    words = list(arguments)
    for at, word in enumerate(ours(arguments)):
        if word == "--upgrade" and not named(arguments[at + 1 : at + 2]):
            words[at] = "--upgrade=all"
    return words


def named(following: list[str]) -> bool:
    """Whether the word after ``--upgrade`` is meant as its value, right or wrong."""
    if not following or following[0].startswith("-"):
        return False
    word = following[0]
    is_path = "." in word or "/" in word or Path(word).exists()
    return not is_path or word in {name.value for name in deploy.Locked}


def bug_of(error: Exception) -> str:
    """What broke, in a line."""
    return printable(f"{type(error).__name__}: {error}")[:200]


def printable(text: str) -> str:
    """A text without secrets that can be written as UTF-8; hidden first, since half a secret is one too."""
    return redact.text(redact.hide(text)).encode("utf-8", "backslashreplace").decode()


def report_bug(error: Exception) -> int:
    """A bug: the traceback goes to a file of its own, a line to the user. Returns the exit code."""
    from r1deploy.journal import write_crash

    text = printable("".join(traceback.format_exception(error)))
    try:
        path = write_crash(text)
        lines.say(f"Error: BUG: {bug_of(error)}")
        lines.say(f"  Log: {path}")
    except OSError:
        lines.say(text)
    return 1
