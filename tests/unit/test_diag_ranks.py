"""The judge of collectives, on rows of real runs: gloo between processes, NCCL between chips; and on made ones."""

from __future__ import annotations

from typing import Any

import pytest

from r1deploy.assurance.rankjudge import collective_table, judge_ranks
from r1deploy.assurance.wirerows import RankRow, WireRow, wire_row_of, wire_rows_in
from tests.unit.test_diag_kernels import DATA

NAMES = ["node1", "node2", "node3"]
CHIPS = ["node1 chip 0", "node1 chip 1"]


def ranks(name: str) -> list[WireRow]:
    rows, refused = wire_rows_in((DATA / f"collectives_{name}.jsonl").read_text(encoding="utf-8").splitlines())
    assert refused == 0 and rows
    return rows


def said(rows: list[WireRow], names: list[str]) -> list[str]:
    return [f"{one.level} {one.code} {one.sentence()}" for one in judge_ranks({"node1": rows}, names)]


def rank(number: int, ended: str = "done", last: str = "", doing: str = "end") -> WireRow:
    row = {"kind": "rank", "rank": number, "name": "x", "backend": "gloo", "ended": ended, "doing": doing, "last": last}
    return made(row)


def made(row: dict[str, Any]) -> WireRow:
    taken = wire_row_of(row)
    assert taken is not None
    return taken


def test_two_healthy_ranks() -> None:
    rows = ranks("gloo")
    assert said(rows, NAMES[:2]) == []
    lines = collective_table({"node1": rows})
    assert [(line.operation, line.bytes) for line in lines] == [
        (name, size) for size in (1 << 10, 1 << 20, 1 << 28) for name in ("all_reduce", "broadcast")
    ]
    assert all(line.exact and line.ranks == 2 and line.gbs > 0 for line in lines)
    assert (lines[4].seconds, lines[4].gbs) == (0.355223, 0.7557), "as the slowest rank saw it"


def test_the_rank_that_did_not_come_is_named_and_those_that_waited_are_not() -> None:
    assert said(ranks("absent"), NAMES) == ["error RANKS_MISSING node3: did not come to the other ranks"]


def test_a_nic_that_does_not_exist() -> None:
    (one,) = judge_ranks({"node1": ranks("no_nic")}, NAMES[:2])
    assert (one.code, one.where) == ("RANK_FAILED", "node1 and node2")
    assert one.what.endswith("ifa != nullptr. Unable to find address for: ens9f9 (start gloo)")


@pytest.mark.parametrize("name", ["nccl", "nccl_two_hosts"])
def test_two_chips(name: str) -> None:
    rows = ranks(name)
    assert said(rows, CHIPS) == []
    *_, reduced, cast = collective_table({"node1": rows})
    assert reduced.bytes == cast.bytes == 1 << 28 and reduced.gbs > 200 and cast.gbs > 200


def test_chips_under_a_nic_that_does_not_exist() -> None:
    assert said(ranks("nccl_no_nic"), CHIPS) == [
        "error RANK_FAILED node1 chip 0: DistBackendError: Bootstrap : no socket interface found "
        "(all_reduce of 1024 bytes)"
    ], "the other rank only waited for the first one"


def test_a_chip_that_did_not_come() -> None:
    assert said(ranks("nccl_absent"), ["node1 chip 0", "node2 chip 0"]) == [
        "error RANKS_MISSING node2 chip 0: did not come to the other ranks"
    ]


def test_a_rank_of_which_nothing_is_heard() -> None:
    assert said([rank(0)], NAMES) == ["error RANKS_MISSING node2 and node3: did not come to the other ranks"]


def test_a_rank_that_failed_before_the_others_met() -> None:
    absent = made({"kind": "absent", "ranks": [1, 7], "names": ["node2", "?"]})
    waited = rank(0, "failed", "Absence: did not come within 20 s: node2", "meet the other ranks")
    failed = rank(1, "failed", "ModuleNotFoundError: No module named 'torch'", "import torch")
    assert said([absent, waited, failed], NAMES[:2]) == [
        "error RANK_FAILED node2: ModuleNotFoundError: No module named 'torch' (import torch)"
    ]
    assert isinstance(waited, RankRow) and said([waited, rank(1)], NAMES[:2]) == [
        f"error RANK_FAILED node1: {waited.last} (meet the other ranks)"
    ]


def test_ranks_that_hang_say_in_what() -> None:
    rows = [rank(number, "hung", "no end within 100 s", "all_reduce of 1024 bytes") for number in (0, 1)]
    assert said(rows, NAMES[:2]) == [
        "error RANK_FAILED node1 and node2: no end within 100 s (all_reduce of 1024 bytes)"
    ]


def test_sums_that_are_not_exact() -> None:
    about = {"kind": "collective", "rank": 1, "bytes": 1 << 20, "exact": False, "seconds": 0.1, "gbs": 1.0}
    rows = [made({**about, "operation": name}) for name in ("all_reduce", "broadcast")]
    assert said([rank(0), rank(1), *rows], NAMES[:2]) == [
        "error SUMS_WRONG node2: what came out is not exact: all_reduce of 1.0 MiB and broadcast of 1.0 MiB"
    ]
    assert [line.exact for line in collective_table({"node1": rows})] == [False, False]
