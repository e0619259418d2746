"""What the runs of ``diag kernels`` on one host come to: a table, what is wrong, what helps. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from r1deploy.assurance import kerneljudge
from r1deploy.assurance.diagrows import CaseRow, ForwardRow, Row, Said, Verdict, Versions
from r1deploy.assurance.kerneljudge import OperatorVerdict, PassVerdict, of_kind
from r1deploy.onhost.kernelfaults import cause_of

OWN, GEMS = "PyTorch's own kernels", "FlagGems"
PASSES = 2  # one a type


@dataclass(frozen=True)
class Comparison:
    """The operators and the whole pass, with some functions of FlagGems switched off."""

    unused: tuple[str, ...]
    operators: Said
    forward: Said


@dataclass(frozen=True)
class KernelRuns:
    """All runs of one host; ``gems`` None: there is no FlagGems, or it came to no run with it."""

    plain: Comparison
    gems: Comparison | None
    again: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Trouble:
    """What is wrong: operators that err for one reason, or none of them where it is the run or the pass."""

    verdict: Verdict
    operators: tuple[str, ...]
    last: str
    flaggems: bool
    hint: str = ""

    def sentence(self) -> str:
        """``12 operators: 'JITFunction' object has no …: FlagGems 2.2 does not fit Triton 3.6.0``."""
        what = kerneljudge.Finding(self.verdict, self.operators, self.last).sentence() if self.operators else self.last
        whose = "" if self.flaggems else f"{OWN}: "
        return f"{whose}{what}" + (f": {self.hint}" if self.hint else "")

    def document(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {**asdict(self), "operators": list(self.operators), "what": self.sentence()}


def in_order(operators: Sequence[str]) -> tuple[str, ...]:
    """Operators in the order of the table: they end in another one on each host."""
    order = list(kerneljudge.TABLE)
    return tuple(sorted(operators, key=lambda name: order.index(name) if name in order else len(order)))


def number_of(rows: Sequence[Row], one: kerneljudge.Finding) -> str:
    """Of an operator that is wrong at one type, the largest error; "" for other findings."""
    if one.verdict != "wrong" or one.last.endswith(")"):  # the host says why by itself
        return ""
    cases = [row for row in of_kind(rows, CaseRow) if row.operator in one.operators and row.verdict == "wrong"]
    cases = [row for row in cases if one.last == f"{row.operator} is wrong in {row.dtype}" and row.error is not None]
    return kerneljudge.reason_of(max(cases, key=lambda row: row.error or 0.0)) if cases else ""


@dataclass(frozen=True)
class KernelReport:
    """One host's runs, judged."""

    runs: KernelRuns

    @property
    def with_it(self) -> Sequence[Row]:
        """The rows with FlagGems, as it is configured."""
        return self.runs.gems.operators.rows if self.runs.gems else ()

    @cached_property
    def versions(self) -> Versions | None:
        """What has to fit each other."""
        return next(iter(of_kind([*self.with_it, *self.runs.plain.operators.rows], Versions)), None)

    @cached_property
    def table(self) -> list[OperatorVerdict]:
        """A line an operator; without FlagGems the verdict is that of PyTorch's own kernels."""
        rows = kerneljudge.table(self.runs.plain.operators.rows, self.with_it)
        return rows if self.runs.gems else [replace(row, verdict=row.verdict_without) for row in rows]

    @cached_property
    def passes(self) -> list[PassVerdict]:
        """The whole pass as FlagGems is configured."""
        return self._passes(self.runs.gems) if self.runs.gems else []

    def _passes(self, compared: Comparison) -> list[PassVerdict]:
        return kerneljudge.passes(self.runs.plain.forward.rows, compared.forward.rows)

    @cached_property
    def troubles(self) -> list[Trouble]:
        """Everything that is wrong, PyTorch's own kernels first."""
        return [*self._of_own(), *self._of_gems()]

    def _of_own(self) -> Iterator[Trouble]:
        plain = self.runs.plain
        if plain.operators.last:
            yield Trouble("failed", (), plain.operators.last, False)
        for one in kerneljudge.findings(plain.operators.rows):
            hint = number_of(plain.operators.rows, one)
            yield Trouble(one.verdict, in_order(one.operators), one.last, False, hint)
        lasts = [row.last for row in of_kind(plain.forward.rows, ForwardRow) if row.last]
        for last in dict.fromkeys([*lasts, *([plain.forward.last] if plain.forward.last else [])]):
            yield Trouble("failed", (), f"the whole pass: {cause_of(last)}", False)

    def _of_gems(self) -> Iterator[Trouble]:
        gems = self.runs.gems
        if gems is None:
            return
        if gems.operators.last:
            yield Trouble("failed", (), f"with {GEMS}: {gems.operators.last}", True)
        for one in kerneljudge.findings(gems.operators.rows):
            hint = kerneljudge.misfit(gems.operators.rows, [one]) or number_of(gems.operators.rows, one)
            yield Trouble(one.verdict, in_order(one.operators), one.last, True, hint)
        wrong: dict[str, list[str]] = {}
        for one_pass in self.passes:
            if not one_pass.right:
                wrong.setdefault(one_pass.last, []).append(one_pass.dtype)
        if gems.forward.last and not wrong:
            wrong[gems.forward.last] = []
        for last, dtypes in wrong.items():
            where = f" in {' and '.join(dtypes)}" if dtypes else ""
            yield Trouble("failed", (), f"the whole pass with {GEMS}{where}: {last}", True)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, with FlagGems as it is configured."""
        return not self.troubles

    @property
    def switch_off(self) -> list[str]:
        """All functions of FlagGems that were off in the last round; [] where there was none."""
        return list(self.runs.again[-1].unused) if self.runs.again else []

    @property
    def switches(self) -> Mapping[str, str]:
        """The same as each of its readers takes it."""
        return kerneljudge.switches(self.switch_off)

    @property
    def left(self) -> list[str]:
        """What was still wrong in the last round, in sentences; [] where it helps."""
        if not self.runs.again:
            return []
        last = self.runs.again[-1]
        found = [one.sentence() for one in kerneljudge.findings(last.operators.rows)]
        found += [said.last for said in (last.operators, last.forward) if said.last]
        passes = self._passes(last)
        found += [f"the whole pass in {one.dtype}: {one.last}" for one in passes if not one.right]
        return found or ([] if len(passes) == PASSES else ["the whole pass gave no number"])

    @property
    def warnings(self) -> list[str]:
        """What is no error, but to be known."""
        without = self.runs.gems is None and not self.runs.plain.operators.over
        return [f"the image has no {GEMS}: {OWN} only"] if without else []

    def document(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "ok": self.ok,
            "versions": self.versions.model_dump(exclude={"kind", "flaggems"}) if self.versions else {},
            "flaggems": self.runs.gems is not None,
            "unused": list(self.runs.gems.unused) if self.runs.gems else [],
            "table": [asdict(row) for row in self.table],
            "findings": [one.document() for one in self.troubles],
            "passes": [asdict(one) for one in self.passes],
            "switch_off": self.switch_off,
            "switches": dict(self.switches),
            "rounds": len(self.runs.again),
            "helps": not self.left if self.runs.again else None,
            "left": self.left,
        }


def by_trouble(hosts: Mapping[str, KernelReport]) -> dict[Trouble, list[str]]:
    """What is wrong, each once, and the hosts that say so."""
    found: dict[Trouble, list[str]] = {}
    for host, report in hosts.items():
        for one in report.troubles:
            found.setdefault(one, []).append(host)
    return found
