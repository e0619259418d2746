"""diag.json: what ``diag`` found last on this host, a small summary a part, always a whole file."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from .plainfiles import read_json
from .trees import store

# Ours has some hundred bytes a part; what is longer is not ours.
LIMIT = 8 << 10


def summaries(path: str) -> dict[str, Any] | None:
    """The summaries by part; None where there is no such file, or none of ours."""
    kept = read_json(path, LIMIT)
    return kept if isinstance(kept, dict) else None


def main(text: str) -> int:
    """Put one part's summary in the place of the former one, the others stay; the exit code."""
    order = json.loads(text)
    os.umask(0o022)
    try:
        store(order["path"], {**(summaries(order["path"]) or {}), order["part"]: order["summary"]})
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
