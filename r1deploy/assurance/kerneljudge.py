"""The judge of ``diag kernels``: rows without and with FlagGems → a table, named findings, what to switch off. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from r1deploy.assurance.diagrows import CaseRow, ForwardRow, OperatorRow, Row, Switch, Verdict, Versions
from r1deploy.onhost.flaggems import base_of
from r1deploy.onhost.kernelfaults import cause_of, fault_of, sentence_of
from r1deploy.onhost.operators import OPERATORS

# The first that one case has is an operator's verdict.
WORST: tuple[Verdict, ...] = ("failed", "hung", "wrong", "missing", "right")
Kind = TypeVar("Kind", bound=Row)
TABLE = {operator.name: operator for operator in OPERATORS}
# With FlagGems a pass may be this many times as far from fp64 as PyTorch's own kernels are, at the least FLOOR.
TIMES, FLOOR = 3.0, {"bf16": 1e-2, "fp32": 1e-5}


@dataclass(frozen=True)
class OperatorVerdict:
    """A line of the table: the largest errors without and with FlagGems, the slowest first call with it."""

    operator: str
    from_flaggems: bool
    error_without: float | None
    error_with: float | None
    verdict: Verdict
    verdict_without: Verdict
    seconds: float | None
    last: str


@dataclass(frozen=True)
class Finding:
    """Operators that are not right for one reason."""

    verdict: Verdict
    operators: tuple[str, ...]
    last: str

    def sentence(self) -> str:
        """``12 operators: 'JITFunction' object has no attribute 'arg_defaults'``."""
        return sentence_of(self.operators, self.last)


def of_kind(rows: Iterable[Row], kind: type[Kind]) -> list[Kind]:
    """The rows of one kind, in their order."""
    return [row for row in rows if isinstance(row, kind)]


def worst_of(cases: Sequence[CaseRow]) -> Verdict:
    """An operator's verdict from its cases; no case at all is ``missing``."""
    found = {case.verdict for case in cases}
    return next((verdict for verdict in WORST if verdict in found), "missing")


def table(without: Sequence[Row], with_it: Sequence[Row]) -> list[OperatorVerdict]:
    """A line an operator, in the order of the pass. Operators that no host was asked for have none."""
    plain, gems = _by_operator(without), _by_operator(with_it)
    return [_line(name, plain.get(name, []), gems.get(name, [])) for name in TABLE if name in plain or name in gems]


def _by_operator(rows: Sequence[Row]) -> dict[str, list[CaseRow]]:
    found: dict[str, list[CaseRow]] = {}
    for case in of_kind(rows, CaseRow):
        found.setdefault(case.operator, []).append(case)
    return found


def _line(name: str, plain: list[CaseRow], gems: list[CaseRow]) -> OperatorVerdict:
    verdict = worst_of(gems)
    return OperatorVerdict(
        operator=name,
        from_flaggems=any(case.from_flaggems for case in gems),
        error_without=_largest(case.error for case in plain),
        error_with=_largest(case.error for case in gems),
        verdict=verdict,
        verdict_without=worst_of(plain),
        seconds=_largest(case.seconds for case in gems),
        last=next((reason_of(case) for case in gems if case.verdict == verdict != "right"), ""),
    )


def _largest(numbers: Iterable[float | None]) -> float | None:
    return max((number for number in numbers if number is not None), default=None)


def reason_of(case: CaseRow) -> str:
    """Why a case is not right, with its numbers."""
    if case.last or case.error is None:
        return case.last or "no number came"
    return f"the error is {case.error:.2g} at {case.dtype} and {case.tokens} tokens, {case.bound:.2g} at most is right"


def findings(rows: Sequence[Row]) -> list[Finding]:
    """Failures by their cause, those of most operators first; a wrong answer is a finding of its operator's own."""
    groups: dict[tuple[Verdict, str], list[str]] = {}
    for name, cases in _by_operator(rows).items():
        for key in dict.fromkeys(_cause(case) for case in cases if case.verdict not in ("right", "missing")):
            groups.setdefault(key, []).append(name)
    named = {name for names in groups.values() for name in names}
    for row in of_kind(rows, OperatorRow):  # a process that ended before its first case
        if row.ended != "done" and row.operator not in named:
            named.add(row.operator)
            verdict: Verdict = "hung" if row.ended == "hung" else "failed"
            groups.setdefault((verdict, cause_of(row.last)), []).append(row.operator)
    found = [Finding(verdict, tuple(names), last) for (verdict, last), names in groups.items()]
    return sorted(found, key=lambda one: (-len(one.operators), one.last))


def _cause(case: CaseRow) -> tuple[Verdict, str]:
    return case.verdict, fault_of(case.operator, case.dtype, case.verdict, case.last)


def to_switch_off(rows: Sequence[Row]) -> list[str]:
    """The functions of FlagGems to leave out, every variant spelled out; [] where all is right or none helps.

    An operator is blamed on the first of its parts that FlagGems serves; one that is made of others only where none of
    them is blamed. What came out is to be checked by running again with it: there may be a second round.
    """
    bad = [name for name, cases in _by_operator(rows).items() if worst_of(cases) != "right" and name in TABLE]
    served = {row.operator: row.switches for row in of_kind(rows, OperatorRow)}
    single = [name for name in bad if not TABLE[name].composite and served.get(name)]
    blamed: dict[str, list[Switch]] = {served[name][0].base: [served[name][0]] for name in single}
    for name in bad:
        parts = {base_of(aten) for aten in TABLE[name].atens}
        if TABLE[name].composite and not parts & set(blamed):
            blamed.update({switch.base: [switch] for switch in served.get(name, [])})
    return sorted({name for switches in blamed.values() for switch in switches for name in switch.names})


def switches(names: Sequence[str]) -> Mapping[str, str]:
    """The list as each of those who read it takes it: FlagGems' ``unused``, vllm-plugin-FL's variable and YAML."""
    if not names:
        return {}
    return {
        "flag_gems.enable": f"unused={json.dumps(list(names))}",
        "VLLM_FL_FLAGOS_BLACKLIST": ",".join(names),
        "flagos_blacklist": "\n".join(["flagos_blacklist:", *(f"  - {name}" for name in names)]),
    }


def misfit(rows: Sequence[Row], found: Sequence[Finding]) -> str | None:
    """``FlagGems 2.2 does not fit Triton 3.6.0``: where calls of compiled kernels fail before any number."""
    versions = next(iter(of_kind(rows, Versions)), None)
    signs = ("JITFunction", "arguments (", "within @jit", "triton.language")
    calls = [one for one in found if one.verdict == "failed" and any(sign in one.last for sign in signs)]
    if not calls or not versions or not versions.flag_gems:
        return None
    return f"FlagGems {versions.flag_gems} does not fit Triton {versions.triton or '(none)'}"


@dataclass(frozen=True)
class PassVerdict:
    """A whole small pass at one type, without and with FlagGems: the share of tokens that agree, and the errors."""

    dtype: str
    error_without: float | None
    error_with: float | None
    next_agree: float | None
    greedy_agree: float | None
    right: bool
    last: str


def passes(without: Sequence[Row], with_it: Sequence[Row]) -> list[PassVerdict]:
    """A line a type. Right: with FlagGems about as near to fp64 as PyTorch's own kernels are."""
    plain = {row.dtype: row for row in of_kind(without, ForwardRow)}
    return [_pass(plain.get(row.dtype), row) for row in sorted(of_kind(with_it, ForwardRow), key=lambda row: row.dtype)]


def _pass(plain: ForwardRow | None, gems: ForwardRow) -> PassVerdict:
    base = plain.error if plain else None
    bound = max(TIMES * base, FLOOR.get(gems.dtype, 0.0)) if base is not None else None
    right = gems.error is not None and bound is not None and gems.error <= bound
    return PassVerdict(
        dtype=gems.dtype,
        error_without=base,
        error_with=gems.error,
        next_agree=_agree(plain.next if plain else [], gems.next),
        greedy_agree=_agree(plain.greedy if plain else [], gems.greedy),
        right=right,
        last="" if right else cause_of(gems.last) or _far(gems.error, bound),
    )


def _far(error: float | None, bound: float | None) -> str:
    if bound is None:
        return "there is no pass of PyTorch's own kernels to compare with"
    return "no number came" if error is None else f"the error is {error:.2g}, {bound:.2g} at most is right"


def _agree(one: Sequence[int], other: Sequence[int]) -> float | None:
    """The share of places with the same token; None where there is nothing to compare."""
    if not one or len(one) != len(other):
        return None
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
