"""The errors of the lab."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot go on; ``fix`` says what to run or do about it."""

    def __init__(self, what: str, fix: str = "", evidence: str = "") -> None:
        self.what, self.fix, self.evidence = what, fix, evidence
        parts = [what, f"Do: {fix}" if fix else "", evidence.rstrip()]
        super().__init__("\n".join(part for part in parts if part))


class WheelsMissing(LabError):
    """Wheels cannot be had here: what needs them is left out, and says so."""
