"""What ``plan`` says: for people, and as a document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from r1deploy.ui import lines, planlines
from r1deploy.ui.choicelines import choice_lines
from r1deploy.ui.difflines import diff_lines

if TYPE_CHECKING:
    from r1deploy.verbs.plan import Planned

LOCK_KEYS = ("name", "current", "desired", "ref")


def planned_lines(planned: Planned, verbose: bool) -> list[str]:
    """The causes, what differs inside files, the changes, the choices, then what forbids to go on and what to know."""
    plan = planned.view.plan
    rows = [
        *planlines.cause_lines(planned.causes, planned.locks),
        *diff_lines(planned.diffs),
        *planlines.plan_lines(plan, verbose),
        *choice_lines(planned.choices),
    ]
    failed = lines.check_lines((check for check in plan.checks if not check.ok), False)
    warned = lines.check_lines((check for check in plan.checks if check.warning), False)
    return [*rows, *(["Blockers:", *failed] if failed else []), *(["Warnings:", *warned] if warned else [])]


def plan_document(planned: Planned) -> dict[str, Any]:
    """The same as JSON types."""
    plan = planned.view.plan
    return {
        "release": planned.view.desired.release.id,
        "run": planned.busy,
        "locks": [dict(zip(LOCK_KEYS, row, strict=True)) for row in planned.locks],
        "causes": list(planned.causes),
        "changes": [asdict(row) for row in plan.changes],
        "noops": [asdict(row) for row in plan.noops],
        "blockers": [asdict(row) | {"blocks": sorted(row.blocks)} for row in plan.checks if not row.ok],
        "warnings": lines.check_rows(row for row in plan.checks if row.warning),
        "choices": [asdict(row) for row in planned.choices],
    }
