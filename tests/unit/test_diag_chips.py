"""The judge of chips: the odd one out is named, a slow one is a warning."""

from __future__ import annotations

from typing import Any

import pytest

from r1deploy.assurance.chipjudge import judge
from r1deploy.assurance.diagrows import ChipRow, rows_in
from tests.unit.test_diag_kernels import DATA

ONE, OTHER, THIRD = ("a" * 64, "b" * 64, "c" * 64)


def chips(name: str) -> list[ChipRow]:
    found, refused = rows_in((DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    assert refused == 0
    return [row for row in found if isinstance(row, ChipRow)]


def chip(index: int, two: tuple[str, str] = (ONE, ONE), **more: Any) -> ChipRow:
    row = {
        "kind": "chip", "index": index, "ended": "done", "last": "", "name": "X", "uuid": f"GPU-{index}", "total": 99,
        "free": 98, "sums": {"bf16": list(two), "fp32": [THIRD, THIRD]}, "tflops": 700.0, "gbs": 2800.0,
        "tested": 2**30, "bad_chunks": 0, "passes": 2, "memory_seconds": 1.0,
    }  # fmt: skip
    return ChipRow.model_validate({**row, **more})


def said(**hosts: list[ChipRow]) -> list[str]:
    return [f"{one.level} {one.sentence()}" for one in judge(hosts)]


def test_real_chips_are_right() -> None:
    one, other, two = chips("chips_h100"), chips("chips_h100_two"), chips("chips_h200_two")
    assert judge({"node1": one}) == judge({"node1": two}) == judge({"node1": other}) == []
    assert judge({"node1": one, "node2": two, "node3": other}) == []
    assert one[0].sums == two[0].sums == other[1].sums, "of these two models the product is the same"


def test_the_one_that_computes_something_else_is_named() -> None:
    assert said(node1=[chip(0), chip(1)], node2=[chip(0), chip(1, (OTHER, OTHER))]) == [
        "error node2, chip 1 (GPU-1): its product in bf16 differs from that of 3 equal chips"
    ]


def test_one_that_disagrees_with_itself_is_named_once() -> None:
    assert said(node1=[chip(0), chip(1, (ONE, OTHER)), chip(2)]) == [
        "error node1, chip 1 (GPU-1): one product in bf16 gave two results"
    ]


def test_where_most_agree_on_nothing_every_one_is_named() -> None:
    found = said(node1=[chip(0)], node2=[chip(0, (OTHER, OTHER), uuid="")])
    assert found == [
        "error node1, chip 0 (GPU-0): its product in bf16 has the sum aaaaaaaaaaaa: the 2 chips agree on none",
        "error node2, chip 0: its product in bf16 has the sum bbbbbbbbbbbb: the 2 chips agree on none",
    ]


def test_unlike_chips_are_not_compared() -> None:
    assert said(node1=[chip(0)], node2=[chip(0, (OTHER, OTHER), name="Y", tflops=10.0)]) == []


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"bad_chunks": 2}, "memory: 2 parts of 1.0 GiB did not hold what was written"),
        ({"ended": "hung", "last": "no end within 90 s"}, "hung: no end within 90 s"),
        ({"ended": "failed", "last": "CUDA error: x", "sums": {}}, "failed: CUDA error: x"),
        ({"sums": {}}, "it told of no product, or of no memory"),
        ({"passes": 0}, "it told of no product, or of no memory"),
    ],
)
def test_what_a_chip_shows_by_itself(more: dict[str, Any], text: str) -> None:
    assert said(node1=[chip(0), chip(1, **more)]) == [f"error node1, chip 1 (GPU-1): {text}"]


def test_a_host_without_a_chip_is_an_error() -> None:
    assert said(node1=[chip(0)], node2=[]) == ["error node2: no chip answered"]


@pytest.mark.parametrize(("number", "warned"), [(561.0, False), (559.0, True), (900.0, False)])
def test_a_fifth_under_the_median_is_a_warning(number: float, warned: bool) -> None:
    found = said(node1=[chip(0), chip(1), chip(2, tflops=number)])
    text = "warning node1, chip 2 (GPU-2): the product runs at 559.0 TFLOP/s, 20 % under the median of 700.0"
    assert found == ([text] if warned else [])
