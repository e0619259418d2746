"""The proof of an installed FlagGems: what it says of a broken one, a slow one, a right one, and where no chip is."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from r1deploy.onhost import firstkernels, kernels
from r1deploy.onhost.children import Tell
from r1deploy.onhost.firstkernels import OPERATOR_NAMES, TOKENS, UNUSED, proof
from r1deploy.onhost.operators import OPERATORS, cases_of

Fate = Callable[[str], str]
VERSIONS = "torch 2.11, triton 3.6.0, flag_gems 2.2"


def module(monkeypatch: pytest.MonkeyPatch, name: str, **names: object) -> None:
    made = types.ModuleType(name)
    made.__dict__.update(names)
    monkeypatch.setitem(sys.modules, name, made)


def chip(count: int = 2, memory: Callable[[int], tuple[int, int]] = lambda _: (9, 10)) -> types.SimpleNamespace:
    """What PyTorch has of a chip."""
    return types.SimpleNamespace(is_available=lambda: count > 0, device_count=lambda: count, mem_get_info=memory)


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An image with PyTorch and two chips that are free."""
    module(monkeypatch, "torch", __version__="2.11", cuda=chip())
    module(monkeypatch, "triton", __version__="3.6.0")
    module(monkeypatch, "flag_gems", __version__="2.2")
    monkeypatch.delenv(UNUSED, raising=False)
    return monkeypatch


def fated(monkeypatch: pytest.MonkeyPatch, fate: Fate) -> list[Any]:
    """Operators end as is said of each: right, wrong, hung, or with a text that is what failed. Returns the orders."""
    orders: list[Any] = []
    task_of = kernels.task_of

    def examine(order: Any, number: int, tell: Tell) -> None:
        operator = OPERATORS[number]
        tell({"kind": "from", "from_flaggems": operator.name != "silu", "switches": [], "enabling": 0.1})
        for case in cases_of(operator, order["tokens"]):
            tell({"kind": "begun", "case": case.name})
            how = fate(operator.name)
            if how == "hung":
                time.sleep(60)
            verdict, last = (how, "") if how in ("right", "wrong") else ("failed", how)
            row = {"error": 0.5, "verdict": verdict, "last": last, "seconds": 0.1, "size": [1]}
            tell(dict(row, kind="case", case=case.name))

    def kept(order: Any, number: int) -> Any:
        orders.append(order)
        return task_of(order, number)

    monkeypatch.setattr(kernels, "examine", examine)
    monkeypatch.setattr(kernels, "task_of", kept)
    return orders


def test_a_flaggems_that_computes(image: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    orders = fated(image, lambda _: "right")
    assert proof("cuda", 30) == (True, f"kernels: 8 operators are right, 7 by FlagGems ({VERSIONS})")
    assert len(orders) == len(OPERATOR_NAMES) == 8
    assert (orders[0]["flaggems"], orders[0]["chips"], orders[0]["tokens"]) == (True, 2, TOKENS)
    assert all(order["jobs"] > 0 for order in orders), "it shares the cores out"
    rows = capsys.readouterr().out.splitlines()
    assert sum('"kind":"case"' in row for row in rows) == 8 * 4, "the log has every case"


def test_the_operators_are_there() -> None:
    assert set(OPERATOR_NAMES) <= {operator.name for operator in OPERATORS}


def test_a_broken_flaggems_is_named_by_its_causes(image: pytest.MonkeyPatch) -> None:
    """As ``diag kernels`` says it: those of most operators first, a wrong answer as its operator's own."""
    jit = "AttributeError: 'JITFunction' object has no attribute 'arg_defaults'"
    fated(image, lambda name: {"silu": "right", "rmsnorm": "wrong"}.get(name, jit))
    right, said = proof("cuda", 30)
    assert not right and said.splitlines() == [
        "FlagGems does not compute right: 6 operators: 'JITFunction' object has no attribute 'arg_defaults'",
        "rmsnorm is wrong in bf16",
        "rmsnorm is wrong in fp32",
        VERSIONS,
    ]


def test_an_operator_that_hangs_is_ended(image: pytest.MonkeyPatch) -> None:
    fated(image, lambda name: "hung" if name == "mm" else "right")
    right, said = proof("cuda", 1)
    assert not right and said.splitlines()[0] == "FlagGems does not compute right: mm: no end within 1 s"


def test_what_stays_off_in_the_engine_stays_off_here(image: pytest.MonkeyPatch) -> None:
    orders = fated(image, lambda _: "right")
    image.setenv(UNUSED, "addmm,addmm_out")
    assert "8 operators are right, 7 by FlagGems, without addmm, addmm_out (torch" in proof("cuda", 30).said
    assert orders[0]["unused"] == ["addmm", "addmm_out"]


def full(_: int) -> tuple[int, int]:
    raise RuntimeError("CUDA error: out of memory")


@pytest.mark.parametrize(
    ("device", "found", "said"),
    [
        ("", chip(), "the engine is not told to use it"),
        ("cuda", chip(0), "PyTorch sees no chip (cuda) in the container"),
        ("npu", chip(), "PyTorch sees no chip (npu) in the container"),
        ("cuda", chip(2, lambda number: (9 - 8 * number, 10)), "the memory of the chips is in use"),
        ("cuda", chip(2, full), "the memory of the chips is in use"),
    ],
)
def test_where_nothing_is_to_be_verified(image: pytest.MonkeyPatch, device: str, found: object, said: str) -> None:
    fated(image, lambda _: "it was run all the same")
    module(image, "torch", __version__="2.11", cuda=found)
    assert proof(device, 30) == (True, f"kernels: not checked here, FlagGems was imported only: {said}")


def test_an_image_without_pytorch(image: pytest.MonkeyPatch) -> None:
    image.setitem(sys.modules, "torch", None)
    right, said = proof("cuda", 30)
    assert right and said.startswith("kernels: not checked here, FlagGems was imported only: ModuleNotFoundError: ")


def test_chips_that_cannot_be_looked_at(image: pytest.MonkeyPatch) -> None:
    """They are there, so it is no want of a chip."""

    def lost(_: int) -> tuple[int, int]:
        raise RuntimeError("device-side assert triggered")

    module(image, "torch", __version__="2.11", cuda=chip(2, lost))
    first = "FlagGems does not compute right: a look at the chips: "
    assert proof("cuda", 30) == (False, f"{first}RuntimeError: device-side assert triggered\n{VERSIONS}")
    module(image, "torch", __version__="2.11", cuda=chip(2, lambda _: time.sleep(60) or (9, 10)))
    assert proof("cuda", 1) == (False, f"{first}no end within 1 s\n{VERSIONS}")


def test_a_pytorch_that_cannot_say_what_is_free(image: pytest.MonkeyPatch) -> None:
    assert firstkernels.least_free(types.SimpleNamespace(npu=types.SimpleNamespace()), "npu", 2) == 1.0
