"""Findings on the terminal, with the exit code of what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from r1deploy.ui import lines

if TYPE_CHECKING:
    from r1deploy.verbs.preflight import Findings


def report(findings: Findings, json: bool, verbose: bool = True, whole: str = "cluster") -> None:
    """Print findings; ends with their exit code where one failed. In: the word for what has no host."""
    if json:
        lines.document({"ok": not findings.exit_code, "checks": lines.check_rows(findings.checks)})
    else:
        lines.show(*lines.check_lines(findings.checks, verbose, whole), lines.verdict(findings.checks))
    if findings.exit_code:
        raise typer.Exit(findings.exit_code)
