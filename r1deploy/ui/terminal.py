"""The one way to a terminal: what hosts say is shown, never obeyed.

Control characters are written as escapes: a file's name that clears the screen, moves the cursor or turns the
text around would show a reader what is not there.
"""

from __future__ import annotations

import re
import sys
import threading
from typing import TextIO

from r1deploy.settings import redact

# C0 but for the end of a line and the tab, DEL, C1; marks that turn the direction of text; line ends that only some
# programs know; halves of a character, which no terminal takes.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
# The threads of several hosts speak at once. A signal's handler may speak while its own thread does.
_TURN = threading.RLock()


def _write(stream: TextIO | None, text: str) -> None:
    """All of ``text`` in one piece: ``print`` writes the end of a line by itself, so two lines could run together.

    In: None for a stream that was closed before we began.
    """
    if stream is None:
        return
    with _TURN:
        stream.write(text)
        stream.flush()


def shown(text: str) -> str:
    """``text`` with each control character as its escape (``\\x1b``); what can be shown stays as it is."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def show(*rows: str, end: str = "\n") -> None:
    """Lines on standard output, where results go."""
    _write(sys.stdout, shown(redact.hide("\n".join(rows))) + end)


def show_json(text: str) -> None:
    """A JSON document whose secrets are hidden; control characters in JSON's own way: it says the same."""
    _write(sys.stdout, _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text) + "\n")


def say(text: str) -> None:
    """Text on standard error, where progress goes."""
    _write(sys.stderr, shown(redact.hide(text)) + "\n")


def show_stream(line: str) -> None:
    """A line of a program on a host, on standard output; its colours go, for they would hide the text in escapes."""
    show(_COLOUR.sub("", line))


def show_headed(head: str, line: str, colour: str) -> None:
    """The same behind a head of ours, which is drawn in a colour (its number; empty: none)."""
    drawn = f"\x1b[{colour}m{shown(head)}\x1b[0m" if colour else shown(head)
    _write(sys.stdout, f"{drawn}{shown(redact.hide(_COLOUR.sub('', line)))}\n")


def say_stream(line: str) -> None:
    """The same for what it says on standard error."""
    say(_COLOUR.sub("", line))


def over(text: str, *, last: bool) -> None:
    """A line on standard error in place of the one before. In: whether it stays."""
    _write(sys.stderr, f"\r\033[K{shown(redact.hide(text))}" + ("\n" if last else ""))
