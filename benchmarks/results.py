"""results.json: medians for programs, every number of every round, and what machine they are of."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import Found, medians

SCHEMA = 1
Document = dict[str, Any]


def merged(old: Mapping[str, Any], part: str, found: Found, run: Mapping[str, Any]) -> Document:
    """The results with one part replaced, the others as they are. In: ``run``, what that part ran on. Pure."""
    return {
        **old,
        "schema": SCHEMA,
        part: medians(found.cases),
        "details": {**old.get("details", {}), part: found.cases},
        "runs": {**old.get("runs", {}), part: {**run, "notes": found.notes}},
    }


def read(path: Path) -> Document:
    """What was measured before; nothing where there is no file. Ends the program where it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        sys.exit(f"{path} is damaged ({error}): remove it, or take it from git")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        sys.exit(f"{path} is of another version of the benchmark: remove it")
    return document


def write(path: Path, text: str) -> None:
    """Replace a file in one piece."""
    partial = path.with_suffix(f".{os.getpid()}.new")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
