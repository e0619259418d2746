"""What ``eval`` found, as JSON types. Shares and differences lie between -1 and 1, the margin is in points."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from r1deploy.assurance.evalcolumns import Column
from r1deploy.assurance.evalcompare import Comparison
from r1deploy.assurance.evaljudge import Judgement


def column_document(column: Column) -> dict[str, Any]:
    """A column; of its run what was asked and with what, without the answers."""
    return {
        "title": column.title,
        "source": column.source,
        "run": column.run.model_dump(exclude={"scores"}) if column.run else None,
        "sets": {name: asdict(cell) for name, cell in column.cells.items()},
    }


def judgement_document(judgement: Judgement) -> dict[str, Any]:
    """A column against another."""
    return {
        "here": {"title": judgement.here.title, "source": judgement.here.source},
        "there": {"title": judgement.there.title, "source": judgement.there.source},
        "margin": judgement.margin,
        "sets": [asdict(row) for row in judgement.rows],
    }


def comparison_document(found: Comparison) -> dict[str, Any]:
    """Two runs."""
    return {
        "judgement": judgement_document(found.judgement),
        "columns": [column_document(column) for column in (found.judgement.here, found.judgement.there)],
        "agreements": [asdict(row) | {"share": row.share} for row in found.agreements],
        "flips": [asdict(row) for row in found.flips],
        "unlike": list(found.unlike),
        "first_differences": [row.model_dump() for row in found.first],
    }
