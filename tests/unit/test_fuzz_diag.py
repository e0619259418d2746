"""What hosts say of chips, kernels and wires: taken whole and judged, or refused; never an exception."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1deploy.assurance import chipjudge, kerneljudge, kernelreport, rankjudge, wirejudge
from r1deploy.assurance.diagrows import ChipRow, Said, row_of, rows_in
from r1deploy.assurance.wirerows import wire_row_of, wire_rows_in
from r1deploy.onhost.saying import MARK
from r1deploy.planning.diagrecord import PARTS, lacking, standings, status_rows
from r1deploy.planning.recorded import State
from tests.fuzzing import quick
from tests.unit.test_diag_kernels import DATA
from tests.unit.test_fuzz_borders import ANSWERS, near


def of_kinds() -> list[dict[str, Any]]:
    """A right row of each kind, as real hosts said it."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("flaggems502", "flaggems502_forward", "chips_h100"):
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line[len(MARK) :])
            found.setdefault(row["kind"], row)
    return list(found.values())


ROWS = of_kinds()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["kind"]))
def test_right_rows_are_taken(row: dict[str, Any]) -> None:
    taken = row_of(row)
    assert taken is not None and taken.kind == row["kind"]


@quick(150)
@given(st.lists(st.sampled_from(ROWS).flatmap(lambda row: near(lambda: copy.deepcopy(row))), max_size=4))
def test_whatever_is_taken_can_be_judged(found: list[Any]) -> None:
    rows = [row for row in map(row_of, found) if row is not None]
    lines = kerneljudge.table(rows, rows)
    assert len(lines) <= len(rows)
    for one in kerneljudge.findings(rows):
        assert one.sentence().encode("utf-8")
    kerneljudge.switches(kerneljudge.to_switch_off(rows))
    kerneljudge.passes(rows, rows)
    chipjudge.judge({"node1": [row for row in rows if isinstance(row, ChipRow)]})


def test_many_rows_that_lie_are_judged_in_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may say ten thousand reasons: each of them must not cost a look at all rows."""
    case = next(row for row in ROWS if row["kind"] == "case")
    made = [row_of({**case, "verdict": "wrong", "last": f"reason {number}"}) for number in range(500)]
    said = Said(tuple(row for row in made if row))
    looks: list[object] = []
    whole = kernelreport.of_kind
    monkeypatch.setattr(kernelreport, "of_kind", lambda rows, kind: (looks.append(kind), whole(rows, kind))[1])
    report = kernelreport.KernelReport(
        kernelreport.KernelRuns(kernelreport.Comparison((), said, Said()), kernelreport.Comparison((), said, Said()))
    )
    assert len(report.troubles) == 1000 and len(looks) < 20


def test_an_operator_that_nobody_asked_for_is_no_row() -> None:
    case = next(row for row in ROWS if row["kind"] == "case")
    assert row_of(case) is not None and row_of({**case, "operator": "mmm"}) is None


@quick(150)
@given(st.lists(st.text() | near(lambda: copy.deepcopy(ROWS[1])).map(json.dumps), max_size=3))
def test_lines_are_rows_or_counted(texts: list[str]) -> None:
    lines = [MARK + text for text in texts]
    rows, refused = rows_in(["Welcome", *lines])
    assert len(rows) + refused == len(lines)


def of_wires() -> list[dict[str, Any]]:
    """A right row of each kind of the network's part."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("wires_firewall.txt", "collectives_gloo.jsonl", "collectives_absent.jsonl"):
        for line in (DATA / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line.partition(MARK)[2])
            found.setdefault(row["kind"], row)
    return list(found.values())


WIRES = of_wires()


@pytest.mark.parametrize("row", WIRES, ids=lambda row: str(row["kind"]))
def test_right_rows_of_wires_are_taken(row: dict[str, Any]) -> None:
    taken = wire_row_of(row)
    assert taken is not None and taken.kind == row["kind"]


def said_by_hosts() -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(WIRES).flatmap(lambda row: near(lambda: copy.deepcopy(row))), max_size=6)


@quick(80)
@given(st.fixed_dictionaries({name: said_by_hosts() for name in ("node1", "node2", "node3")}))
def test_whatever_is_taken_of_wires_can_be_judged(said: dict[str, list[Any]]) -> None:
    hosts = {host: [row for row in map(wire_row_of, found) if row is not None] for host, found in said.items()}
    found = wirejudge.judge(hosts, wirejudge.Limits(floor_gbit=1.0))
    for one in [*found, *rankjudge.judge_ranks(hosts, ["node1", "node2"])]:
        assert one.sentence().encode("utf-8")
    assert len(wirejudge.table(hosts)) == 6
    rankjudge.collective_table(hosts)


@quick(100)
@given(st.lists(st.text() | near(lambda: copy.deepcopy(WIRES[1])).map(json.dumps), max_size=3))
def test_lines_are_rows_of_wires_or_counted(texts: list[str]) -> None:
    rows, refused = wire_rows_in(["Welcome", *(MARK + text for text in texts)])
    assert len(rows) + refused == len(texts)


RIGHT = {"release": "a" * 12, "time": "2026-03-02T11:00:00Z", "ok": True, "chips": 16, "findings": 0, "run": "0a1b"}


def kept() -> dict[str, Any]:
    """A right diag.json."""
    return {part: dict(RIGHT) for part in PARTS}


@quick(200)
@given(near(kept), near(kept))
def test_whatever_diag_json_says_can_be_shown(one: Any, other: Any) -> None:
    records = {}
    for host, found in (("node1", one), ("node2", other)):
        records[host] = State.model_validate({**ANSWERS["0"]["state"], "diag": found}).diag
    rows = standings("a" * 12, tuple(records), records)
    assert all(line.isprintable() and len(line) < 400 for line in [*status_rows(rows, 0), *lacking(rows)])
    json.dumps([dataclasses.asdict(row) for row in rows])
