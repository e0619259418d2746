"""The pages under docs/ say what the program does: they cannot go stale unnoticed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import r1deploy
from r1deploy import errors
from r1deploy.errors import ErrorCode, PreflightError, R1Error

PACKAGE = Path(r1deploy.__file__ or "").parent
DOCS = PACKAGE.parent / "docs"
ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", ERRORS, re.M | re.S))


def raised() -> dict[str, set[int]]:
    """Code → exit codes of the classes that are raised with it as a literal; a preflight check is one of 5."""
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, R1Error)}
    found: dict[str, set[int]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).split(".")[-1]
            place = 0 if name in kinds or name == "failed" else None
            if place is None or len(node.args) <= place:
                continue
            code = node.args[place]
            if isinstance(code, ast.Constant) and code.value in ErrorCode:
                found[code.value].add(kinds.get(name, PreflightError).exit_code)
    return found


RAISED = raised()


def test_every_code_has_its_paragraph_and_no_other_is_there() -> None:
    assert sorted(SECTIONS) == sorted(ErrorCode)
    assert len(re.findall(r"^### ", ERRORS, re.M)) == len(SECTIONS), "a code is there twice"


@pytest.mark.parametrize("code", ErrorCode)
def test_a_paragraph_says_the_exit_code_the_meaning_and_the_fix(code: str) -> None:
    text = " ".join(SECTIONS[code].split())
    found = re.match(r"\*Exit ([0-9]+(?:(?:, | or )[0-9]+)*)\.\* (.+) Fix: (.+)", text)
    assert found, text[:80]
    said = {int(number) for number in re.findall("[0-9]+", found[1])}
    # SSH's own failures are read before any step (4), a host is found unreachable there; the rest is literal.
    wanted = RAISED.get(code, set()) - ({5} if code == "SSH_FAILED" else set())
    assert wanted <= said, f"{code} is raised with exit code {sorted(wanted)}"
    assert len(found[2]) > 25 and len(found[3]) > 5


def test_the_search_for_raised_codes_finds_them() -> None:
    assert RAISED["LIMIT_EMPTY"] == {2} and RAISED["CHIP_SICK"] == {5} and len(RAISED) > 50


def test_cli_reference_is_what_the_program_says(tmp_path: Path) -> None:
    """``make docs`` writes it."""
    fresh = tmp_path / "cli.md"
    argv = [sys.executable, "-m", "typer", "r1deploy.cli.main", "utils", "docs", "--name", "r1deploy"]
    subprocess.run([*argv, "--output", str(fresh)], check=True, capture_output=True, timeout=120)
    text = fresh.read_text(encoding="utf-8")
    assert "## `r1deploy bootstrap`" in text and "### `r1deploy lab up`" in text
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == text, "run: make docs"
