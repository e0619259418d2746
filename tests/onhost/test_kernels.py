"""The table of operators, FlagGems' record and the rows, as far as they need no torch."""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import pytest

from r1deploy.assurance.diagrows import CaseRow, OperatorRow, row_of
from r1deploy.onhost import flaggems
from r1deploy.onhost.children import Task
from r1deploy.onhost.kernels import Table
from r1deploy.onhost.operators import OPERATORS, bound_of, cases_of
from r1deploy.onhost.orders import CHIPS, FORWARD, KERNELS, order_of
from r1deploy.onhost.saying import MARK

NAMED = {operator.name: operator for operator in OPERATORS}
# What the forward pass of the model calls at the least.
ASKED = {
    "embedding", "mm", "mm.out", "addmm", "addmm.out", "linear", "bmm", "softmax", "rmsnorm.pow", "rmsnorm.mean",
    "rmsnorm.rsqrt", "rmsnorm.mul", "silu", "mul", "mul_", "add", "add_", "cat", "gather", "index_select", "topk",
    "sigmoid", "cumsum", "argmax", "where", "masked_fill", "masked_fill_", "arange", "zeros", "full", "copy_", "cast",
}  # fmt: skip


def test_the_table_has_each_operator_once() -> None:
    assert set(NAMED) >= ASKED and len(NAMED) == len(OPERATORS)
    assert [operator.name for operator in OPERATORS if operator.composite] == ["rmsnorm"]


def test_cases_are_small_ones_first_and_scaled() -> None:
    assert [case.name for case in cases_of(NAMED["mm"], (8192, 1))] == [
        "bf16 1", "fp32 1", "bf16 8192", "fp32 8192",
    ]  # fmt: skip
    assert [case.tokens for case in cases_of(NAMED["argmax"], (1, 1009, 8192))] == [1, 1, 1009, 1009]
    assert [case.dtype for case in cases_of(NAMED["arange"], (1,))] == ["int64"]


def test_bounds() -> None:
    assert (bound_of(NAMED["mm"], "bf16"), bound_of(NAMED["mm"], "fp32")) == (1e-2, 1e-5)
    assert (bound_of(NAMED["cumsum"], "bf16"), bound_of(NAMED["cumsum"], "fp32")) == (2e-2, 1e-5)
    assert {bound_of(operator, "bf16") for operator in OPERATORS if operator.exact} == {0.0}


def test_an_order_says_only_what_is_known() -> None:
    assert order_of(KERNELS, '{"jobs": 9}')["jobs"] == 9 and order_of(CHIPS, "{}")["share"] == 0.9
    with pytest.raises(ValueError, match="unknown in an order: job"):
        order_of(FORWARD, '{"job": 9}')


class Library:
    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    def impl(self, name: str, function: Any, key: str, **_: Any) -> None:
        if name == "nonsense":
            raise RuntimeError("no such operator")
        self.taken.append((name, key))


def addmm_out() -> None: ...
def mul_() -> None: ...


def test_flaggems_is_recorded_as_it_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    module, library = types.ModuleType("flag_gems"), Library()
    asked: list[list[str]] = []

    def enable(lib: Any, unused: list[str]) -> None:
        asked.append(unused)
        lib.impl("addmm.out", addmm_out, "CUDA")
        lib.impl("mul_.Tensor", mul_, "CUDA", allow_override=True)
        with pytest.raises(RuntimeError):
            lib.impl("nonsense", mul_, "CUDA")

    monkeypatch.setitem(module.__dict__, "aten_lib", library)
    monkeypatch.setitem(module.__dict__, "enable", enable)
    monkeypatch.setitem(sys.modules, "flag_gems", module)
    found = flaggems.enable(("mm",))
    assert asked == [["mm"]] and library.taken == [("addmm.out", "CUDA"), ("mul_.Tensor", "CUDA")]
    assert found.serves(("addmm.out",)) and not found.serves(("addmm",))
    assert found.switches(("addmm", "mul.Tensor", "silu")) == [
        {"base": "addmm", "names": ["addmm_out"]},
        {"base": "mul", "names": ["mul_"]},
    ]


def said(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """What was printed, as the controller reads it."""
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(MARK) for line in lines)
    found = [row_of(json.loads(line[len(MARK) :])) for line in lines]
    assert None not in found
    return found


def test_a_process_that_hangs_leaves_a_row_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    table, task = Table({"tokens": (1, 9), "flaggems": True}), Task("mm", lambda tell: None, 5)
    switches = [{"base": "mm", "names": ["mm", "mm_out"]}]
    table.row(task, {"kind": "from", "from_flaggems": True, "switches": switches, "enabling": 1.5})
    table.row(task, {"kind": "begun", "case": "bf16 1"})
    right = {
        "kind": "case",
        "case": "bf16 1",
        "error": 0.001,
        "verdict": "right",
        "last": "",
        "seconds": 0.1,
        "size": [1],
    }
    table.row(task, right)
    table.row(task, {"kind": "begun", "case": "fp32 1"})
    table.ended(task, "hung", "no end within 5 s")
    *cases, operator = said(capsys)
    assert all(isinstance(case, CaseRow) and case.from_flaggems for case in cases)
    assert [(case.dtype, case.tokens, case.verdict, case.last) for case in cases] == [
        ("bf16", 1, "right", ""),
        ("fp32", 1, "hung", "no end within 5 s"),
        ("bf16", 9, "missing", "not run: no end within 5 s"),
        ("fp32", 9, "missing", "not run: no end within 5 s"),
    ]
    assert isinstance(operator, OperatorRow) and operator.ended == "hung" and operator.enabling == 1.5


def test_a_process_that_never_began_is_to_blame_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    table, task = Table({"tokens": (1,), "flaggems": True}), Task("arange", lambda tell: None, 5)
    table.ended(task, "failed", "ModuleNotFoundError: No module named 'flag_gems'")
    case, operator = said(capsys)
    assert (case.verdict, case.from_flaggems, case.bound) == ("failed", False, 0.0)
    assert operator.switches == [] and operator.enabling is None
