"""Standard output and error as they are: an ASCII terminal, a reader that goes away."""

from __future__ import annotations

import codecs
import io
import os
import select
import signal
import sys
import unicodedata
from collections.abc import Iterable
from typing import TextIO

PLAIN = {"→": "->", "…": "...", "×": "x", "━": "#", "─": "-", "«": '"', "»": '"'}
CLOSED = 128 + signal.SIGPIPE
ERRORS = "r1deploy-plain"


def plain(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: what a stream cannot say, in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(spelled, error.object[error.start : error.end])), error.end


def spelled(letter: str) -> str:
    """One letter in ASCII: by our table, without its accent, or as an escape."""
    if letter in PLAIN:
        return PLAIN[letter]
    base = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode("ascii")
    return base or letter.encode("ascii", "backslashreplace").decode("ascii")


def fit() -> None:
    """Let standard output and error take every text, whatever their encoding is."""
    codecs.register_error(ERRORS, plain)
    for stream in streams():
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def streams() -> Iterable[TextIO]:
    """Standard output and error, where they are open."""
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def reader_gone() -> bool:
    """Whether the reader of standard output or error went away, as ``| head`` does."""
    asked = select.poll()
    for stream in streams():
        asked.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in asked.poll(0))


def closed() -> int:
    """End as other programs do whose reader went away: quietly, with the exit code of SIGPIPE."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in streams():
        # What is left in the buffers goes there when Python ends.
        os.dup2(null, stream.fileno())
    return CLOSED
