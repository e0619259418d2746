"""Findings are made in three ways, and each says what it may: one judge for a checkpoint; one table of causes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import r1deploy
from r1deploy.causes import ENGINE, GIT, GIT_UNKNOWN, ON_HOSTS, cause_of
from r1deploy.errors import ErrorCode
from r1deploy.planning.findings import BOOTSTRAP, BOTH, failed, passed, warned
from r1deploy.planning.observed import Weights
from r1deploy.planning.shardfindings import judged
from r1deploy.ui.lines import check_rows

TOP = Path(r1deploy.__file__ or "").parent


def test_what_passes_carries_no_failure() -> None:
    row = passed("engine", "Docker Engine 26.1.5").at("node1")
    assert (row.ok, row.code, row.fix, row.warning, row.host) == (True, None, None, False, "node1")
    (said,) = check_rows([row])
    assert said["code"] is None and said["fix"] is None


def test_what_fails_forbids_and_what_warns_does_not() -> None:
    bad, word = failed("DISK_FULL", "disk", "full", "free space", BOOTSTRAP), warned("API_OPEN", "api", "open", "a key")
    assert (bad.ok, bad.blocks, failed("DISK_FULL", "disk", "full").blocks) == (False, BOOTSTRAP, BOTH)
    assert (word.ok, word.warning, word.blocks) == (True, True, frozenset())


def test_findings_are_made_nowhere_else() -> None:
    makers = [path for path in TOP.rglob("*.py") if re.search(r"(?<![\w.])Check\(", path.read_text(encoding="utf-8"))]
    assert [path.name for path in makers] == ["findings.py"]


WHOLE = {
    "path": "/w", "exists": True, "index": True, "config": True, "shards": 2, "missing": [], "bad": [],
    "bytes": 3 << 30, "sum": "a", "layers": 61, "why": {}, "outside": {}, "content": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({}, None, "2 shards, 3.0 GiB"),
        ({"exists": False, "shards": 0}, "WEIGHTS_MISSING", "the disk is not there"),
        ({"shards": 0}, "WEIGHTS_MISSING", "the disk: no safetensors"),
        ({"config": False}, "WEIGHTS_MISSING", "the disk: no config.json"),
        ({"missing": ["b"]}, "WEIGHTS_DAMAGED", "the disk: missing b"),
        ({"bad": ["c"], "why": {"c": "too short"}}, "WEIGHTS_DAMAGED", "the disk: truncated or damaged c (too short)"),
        ({"missing": list("abcdefg")}, "WEIGHTS_DAMAGED", "the disk: missing a, b, c, d, e and 2 more"),
        ({"outside": {".": "/else"}}, "WEIGHTS_MISSING", "/w leads to /else: no volume of the container has that"),
    ],
)
def test_one_judge_of_a_checkpoint(change: dict[str, object], code: str | None, said: str) -> None:
    verdict = judged(Weights.model_validate({**WHOLE, **change}), "the disk")
    assert (verdict.code, verdict.said) == (code, said)


def test_each_cause_has_its_code_its_words_and_its_paragraph() -> None:
    docs = (TOP.parent / "docs" / "errors.md").read_text(encoding="utf-8")
    for row in (*ON_HOSTS, *GIT, GIT_UNKNOWN):
        assert row.code in ErrorCode and row.sentence and row.fix
        assert row.code in docs, row.code
    for row in ENGINE:
        assert row.sentence and row.fix
        assert docs.count(f"**{row.code}**") == docs.count(row.code) == 1, row.code


def test_the_first_cause_that_fits_is_taken() -> None:
    both = "REMOTE HOST IDENTIFICATION HAS CHANGED\nPermission denied"
    found = cause_of(ON_HOSTS, both)
    assert found is not None and found.code == "HOSTKEY_CHANGED"
    assert cause_of(ENGINE, "all is well") is None
