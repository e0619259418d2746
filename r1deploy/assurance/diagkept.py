"""TEMPORARY stand-in until the branch ``keep`` is merged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from r1deploy.journal import private_folder, state_home
from r1deploy.observe.view import View
from r1deploy.run import Run

Part = Literal["chips", "kernels", "network"]


@dataclass(frozen=True)
class PartResult:
    """TEMPORARY."""

    part: Part
    ok: bool
    chips: Mapping[str, int]
    findings: Sequence[str]
    warnings: Sequence[str]
    document: Mapping[str, Any]


def keep(run: Run, view: View, result: PartResult) -> Path:
    """TEMPORARY."""
    path = private_folder(state_home() / "diag" / run.settings.cluster) / f"{result.part}.json"
    path.write_text(json.dumps(dict(result.document)), encoding="utf-8")
    return path
