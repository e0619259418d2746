"""Texts of files for ``r1deploy plan -v``: plain files, so much and no more."""

from __future__ import annotations

import json

from .plainfiles import read_bytes
from .saying import say

# Of one file; a rendered one has some kilobytes.
LIMIT = 64 << 10


def text_of(path: str) -> str | None:
    """A file's text; None where it cannot be read, or is longer than ours are."""
    try:
        return read_bytes(path, LIMIT).decode("utf-8", "replace")
    except OSError:
        return None


def main(text: str) -> int:
    """Print one row whose ``texts`` are ``{path: text or null}``. In: ``paths`` as JSON."""
    say("done", texts={path: text_of(path) for path in json.loads(text)["paths"]})
    return 0
