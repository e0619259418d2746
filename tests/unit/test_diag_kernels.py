"""The judge of kernels, on the rows of a real accelerator: PyTorch's own kernels, three FlagGems, Triton 3.6."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1deploy.assurance import kerneljudge as judge
from r1deploy.assurance.diagrows import CaseRow, Done, ForwardRow, OperatorRow, Row, Switch, Versions, row_of, rows_in
from r1deploy.onhost.firstkernels import OPERATOR_NAMES
from r1deploy.onhost.operators import OPERATORS

DATA = Path(__file__).parents[1] / "data" / "diag"


def rows(name: str) -> list[Row]:
    """All rows of one run; every one is understood."""
    found, refused = rows_in((DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    assert refused == 0 and isinstance(found[-1], Done), name
    return found


@pytest.fixture(scope="module")
def plain() -> list[Row]:
    return rows("pytorch")


def sentences(name: str) -> list[str]:
    return [one.sentence() for one in judge.findings(rows(name))]


def test_pytorchs_own_kernels_are_right(plain: list[Row]) -> None:
    cases = judge.of_kind(plain, CaseRow)
    assert len(cases) == 280 and {case.operator for case in cases} == {operator.name for operator in OPERATORS}
    assert {case.verdict for case in cases} == {"right"} and not any(case.from_flaggems for case in cases)
    assert judge.findings(plain) == [] and judge.to_switch_off(plain) == [] and judge.misfit(plain, []) is None


def test_the_tag_of_the_seed_fails_in_one_way() -> None:
    found = judge.findings(rows("flaggems22"))
    assert found[0].sentence() == "34 operators: 'JITFunction' object has no attribute 'arg_defaults'"
    assert found[0].verdict == "failed" and "embedding" in found[0].operators
    assert judge.misfit(rows("flaggems22"), found) == "FlagGems 2.2 does not fit Triton 3.6.0"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("22", "7 operators: 'JITFunction' object has no attribute 'arg_defaults'"),
        ("30", "3 operators: function takes exactly 25 arguments (21 given)"),
        ("502", "mm: no end within 90 s"),
    ],
)
def test_the_proof_of_install_names_them_on_a_real_chip(version: str, wanted: str) -> None:
    """Eight operators on an H100, as ``install`` runs them: 19, 37 and 105 seconds."""
    said, refused = rows_in((DATA / f"flaggems{version}_install.jsonl").read_text(encoding="utf-8").splitlines())
    assert refused == 0 and wanted in [one.sentence() for one in judge.findings(said)]
    assert {case.operator for case in judge.of_kind(said, CaseRow)} == set(OPERATOR_NAMES)


def test_a_later_main_calls_compiled_kernels_as_another_triton_does() -> None:
    found = judge.findings(rows("flaggems30"))
    assert found[0].last == "function takes exactly 25 arguments (21 given)"
    assert {"mm", "mm.out", "addmm", "addmm.out", "linear", "bmm"} <= set(found[0].operators)
    assert "embedding: function takes exactly 18 arguments (16 given)" in sentences("flaggems30")
    assert judge.misfit(rows("flaggems30"), found) == "FlagGems 3.0 does not fit Triton 3.6.0"


def test_the_package_of_the_index_hangs_errs_and_breaks_its_process() -> None:
    said = sentences("flaggems502")
    assert "5 operators: no end within 80 s" in said
    assert "2 operators: Triton Error [CUDA]: an illegal memory access was encountered" in said
    assert "rmsnorm.mul is wrong in bf16" in said
    assert "index_select.strided is wrong in fp32" in said
    assert judge.misfit(rows("flaggems502"), judge.findings(rows("flaggems502"))) is None


def test_the_table_has_a_line_an_operator(plain: list[Row]) -> None:
    lines = {line.operator: line for line in judge.table(plain, rows("flaggems502"))}
    assert list(lines) == [operator.name for operator in OPERATORS]
    wrong = lines["index_select.strided"]
    assert (wrong.verdict, wrong.verdict_without, wrong.from_flaggems) == ("wrong", "right", True)
    assert wrong.error_without == 0.0 and wrong.error_with is not None and wrong.error_with > 0.9
    assert wrong.last == "the error is 1 at bf16 and 1009 tokens, 0 at most is right"
    assert lines["mm"].verdict == "hung" and lines["mm"].last == "no end within 80 s"
    assert lines["silu"].verdict == "right" and lines["silu"].last == "" and (lines["silu"].seconds or 0) > 0
    assert lines["rmsnorm.mul"].verdict == "failed"


def test_what_is_to_be_switched_off_helps(plain: list[Row]) -> None:
    """The second run was made with just this list: everything is right, the whole pass too."""
    names = judge.to_switch_off(rows("flaggems502"))
    assert names == [
        "addmm", "addmm_out", "index_add", "index_add_", "index_select", "mm", "mm_out", "mul", "mul_",
    ]  # fmt: skip
    again = rows("flaggems502_off")
    assert judge.findings(again) == [] and judge.to_switch_off(again) == []
    assert any(line.from_flaggems for line in judge.table(plain, again))
    for verdict in judge.passes(rows("pytorch_forward"), rows("flaggems502_off_forward")):
        assert verdict.right and verdict.greedy_agree == 1.0, verdict
        assert verdict.next_agree is not None and verdict.next_agree >= 47 / 48, verdict


def test_the_list_is_written_as_its_readers_take_it() -> None:
    assert judge.switches([]) == {}
    assert judge.switches(["addmm", "addmm_out"]) == {
        "flag_gems.enable": 'unused=["addmm", "addmm_out"]',
        "VLLM_FL_FLAGOS_BLACKLIST": "addmm,addmm_out",
        "flagos_blacklist": "flagos_blacklist:\n  - addmm\n  - addmm_out",
    }


def test_a_whole_pass_that_fails_says_why() -> None:
    found = judge.passes(rows("pytorch_forward"), rows("flaggems22_forward"))
    assert [one.dtype for one in found] == ["bf16", "fp32"] and not any(one.right for one in found)
    assert {one.last for one in found} == {"'JITFunction' object has no attribute 'arg_defaults'"}
    last = [one.last for one in judge.passes(rows("pytorch_forward"), rows("flaggems502_forward"))]
    assert last == ["CUDA error: an illegal memory access was encountered", "no end within 85 s"]


def a_pass(dtype: str, error: float | None, greedy: list[int]) -> ForwardRow:
    row = {"kind": "forward", "dtype": dtype, "flaggems": True, "error": error, "seconds": 1, "last": ""}
    found = row_of({**row, "next": [1, 2], "wanted": [1, 2], "greedy": greedy})
    assert isinstance(found, ForwardRow)
    return found


@pytest.mark.parametrize(
    ("dtype", "base", "error", "right"),
    [("bf16", 0.05, 0.14, True), ("bf16", 0.05, 0.49, False), ("fp32", 4e-7, 9e-6, True), ("fp32", 4e-7, None, False)],
)
def test_a_pass_is_as_near_as_pytorchs_own(dtype: str, base: float, error: float | None, right: bool) -> None:
    (found,) = judge.passes([a_pass(dtype, base, [1, 2, 3, 4])], [a_pass(dtype, error, [1, 2, 3, 5])])
    assert (found.right, found.greedy_agree, found.next_agree) == (right, 0.75, 1.0)
    assert bool(found.last) is not right


def test_a_pass_with_nothing_beside_it_is_not_right() -> None:
    (found,) = judge.passes([], [a_pass("bf16", 0.01, [])])
    assert not found.right and found.greedy_agree is None and "to compare with" in found.last


def case(operator: str, verdict: str, last: str = "") -> Row:
    about = {"dtype": "bf16", "tokens": 1, "bound": 0.01, "error": None, "from_flaggems": True, "seconds": None}
    found = row_of({"kind": "case", "operator": operator, "verdict": verdict, "last": last, **about})
    assert found is not None
    return found


def served(operator: str, *switches: tuple[str, list[str]], ended: str = "done") -> OperatorRow:
    named = [Switch(base=base, names=names) for base, names in switches]
    return OperatorRow.model_validate(
        {"kind": "operator", "operator": operator, "ended": ended, "last": "TypeError: x", "flaggems": True,
         "from_flaggems": True, "switches": named, "enabling": 1.0}
    )  # fmt: skip


PARTS = [("pow", ["pow_tensor_scalar"]), ("mul", ["mul", "mul_"])]


def test_what_is_made_of_others_is_blamed_only_where_they_are_right() -> None:
    whole = [case("rmsnorm", "wrong"), served("rmsnorm", *PARTS)]
    assert judge.to_switch_off(whole) == ["mul", "mul_", "pow_tensor_scalar"]
    assert judge.to_switch_off([*whole, case("mul", "wrong"), served("mul", PARTS[1])]) == ["mul", "mul_"]


def test_what_flaggems_does_not_serve_cannot_be_switched_off() -> None:
    assert judge.to_switch_off([case("mm", "wrong"), served("mm")]) == []
    assert judge.to_switch_off([case("linear", "wrong"), served("linear", ("mm", ["mm", "mm_out"]))]) == [
        "mm",
        "mm_out",
    ]


def test_a_process_that_ended_before_its_first_case_is_a_finding() -> None:
    (found,) = judge.findings([served("mm", ended="hung")])
    assert (found.verdict, found.operators, found.last) == ("hung", ("mm",), "x")


def test_addresses_do_not_part_what_failed_in_one_way() -> None:
    lasts = [f"RuntimeError: bad pointer 0x7f{n:02x}" for n in range(3)]
    (found,) = judge.findings(
        [case(name, "failed", last) for name, last in zip(("mm", "add", "cat"), lasts, strict=True)]
    )
    assert found.sentence() == "3 operators: bad pointer 0x…"


def test_versions_are_named() -> None:
    (found,) = judge.of_kind(rows("flaggems502"), Versions)
    assert (found.flag_gems, found.triton, found.flaggems) == ("5.0.2", "3.6.0", True)
