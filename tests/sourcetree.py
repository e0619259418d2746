"""The program's own sources, for the tests that hold its shape."""

from __future__ import annotations

import ast
from pathlib import Path

import r1deploy

PACKAGE = Path(r1deploy.__file__ or "").parent
STANDINS = PACKAGE / "lab" / "standins"


def modules() -> dict[str, Path]:
    """All modules of the package by their dotted names; the lab's stand-ins are no part of the program."""
    files = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if STANDINS in path.parents or "_content" in path.parts:
            continue
        words = path.relative_to(PACKAGE.parent).with_suffix("").parts
        files[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return files


MODULES = modules()


def tree_of(name: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))
