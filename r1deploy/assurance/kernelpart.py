"""``diag kernels``: the operators and a small whole pass on every host, without and with FlagGems.

Where FlagGems errs, its functions that are to blame are switched off, and all is run again: only that shows whether it
helps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1deploy.assurance.chippart import CPU
from r1deploy.assurance.diagrows import OperatorRow, Row, Said
from r1deploy.assurance.inside import Place, Work
from r1deploy.assurance.kerneljudge import to_switch_off
from r1deploy.assurance.kernelreport import Comparison, KernelRuns
from r1deploy.assurance.partwork import Heard, Site, at_once, said_by
from r1deploy.observe.view import View
from r1deploy.onhost.operators import OPERATORS
from r1deploy.run import Run
from r1deploy.settings.model import Settings

ROUNDS = 3
# One token, a number that no block divides, and the largest that is taken from the engine's settings.
SMALL_TOKENS, PROFILED, MOST_TOKENS = (1, 1009), 8192, 16384
BATCHED = "max_num_batched_tokens"
# A pass compiles the kernels of many operators.
PASS = 2
BLACKLIST = "VLLM_FL_FLAGOS_BLACKLIST"
FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")


NO_FLAGGEMS = "No module named 'flag_gems'"


class _NoFlagGems(Exception):
    """The image has no FlagGems: nothing is to be compared with."""


def measure_kernels(
    run: Run, view: View, places: Mapping[str, Place], chips: Mapping[str, int], heard: Heard
) -> dict[str, KernelRuns]:
    """All runs on all hosts at once. In: by host, over how many chips its operators are spread."""

    def one(site: Site) -> KernelRuns:
        return KernelWork(site, run.settings, chips[site.remote.name]).all_runs()

    return at_once(run, view, (places, heard), one)


@dataclass(frozen=True)
class KernelWork:
    """The part on one host; ``chips``: over so many the operators are spread."""

    site: Site
    settings: Settings
    chips: int

    def all_runs(self) -> KernelRuns:
        """Without FlagGems, with it as it is configured, and again while something is to be switched off."""
        plain = self.compare(False, ())
        if plain.operators.over:
            return KernelRuns(plain, None)
        try:
            found = [self.compare(True, switched_off(self.settings))]
        except _NoFlagGems:
            return KernelRuns(plain, None)
        while len(found) <= ROUNDS and not found[-1].operators.last:
            names = tuple(sorted({*found[-1].unused, *to_switch_off(found[-1].operators.rows)}))
            if names == found[-1].unused:
                break
            found.append(self.compare(True, names, len(found)))
        return KernelRuns(plain, found[0], tuple(found[1:]))

    def compare(self, flaggems: bool, unused: Sequence[str], again: int = 0) -> Comparison:
        """The operators, then the pass; where something else is to be switched off, not the pass again."""
        words = "with FlagGems" if flaggems else "PyTorch's own kernels"
        words += f", {len(unused)} functions off (round {again})" if again else ""
        operators = self.operators(flaggems, unused, words)
        if operators.over or (again and set(to_switch_off(operators.rows)) - set(unused)):
            return Comparison(tuple(unused), operators, Said())
        self.site.tell(f"{words}, a whole pass")
        seconds = min(PASS * self.settings.diag.operator_seconds, self.settings.diag.kernels_seconds)
        order = {**self.order(flaggems, unused), "deadline": seconds}
        work = Work("forward", order, self.settings.diag.kernels_seconds)
        return Comparison(tuple(unused), operators, said_by(self.site, work, lambda row: None))

    def operators(self, flaggems: bool, unused: Sequence[str], words: str) -> Said:
        """All operators. Raises _NoFlagGems."""
        ended = 0

        def take(row: Row) -> None:
            nonlocal ended
            if isinstance(row, OperatorRow):
                ended += 1
                self.site.tell(f"{words}: {ended} of {len(OPERATORS)} operators")
                if flaggems and NO_FLAGGEMS in row.last:
                    raise _NoFlagGems

        self.site.tell(words)
        diag = self.settings.diag
        order = {**self.order(flaggems, unused), "chips": self.chips, "tokens": tokens_of(self.settings)}
        order["deadline"] = min(diag.operator_seconds, diag.kernels_seconds)
        return said_by(self.site, Work("kernels", order, diag.kernels_seconds), take)

    def order(self, flaggems: bool, unused: Sequence[str]) -> dict[str, Any]:
        """What both works are told."""
        return {"flaggems": flaggems, "unused": list(unused), "device": self.settings.chip.torch_device}


def tokens_of(settings: Settings) -> list[int]:
    """The numbers of tokens at which operators run."""
    if settings.diag.tokens:
        return settings.diag.tokens
    asked = settings.engine.extra.get(BATCHED)
    number = asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else PROFILED
    return [*SMALL_TOKENS, min(number, MOST_TOKENS)]


def switched_off(settings: Settings) -> tuple[str, ...]:
    """The functions of FlagGems that the nodes' environment switches off."""
    names = {name.strip() for name in settings.env.get(BLACKLIST, "").split(",")}
    return tuple(sorted(name for name in names if FUNCTION.fullmatch(name)))


def chips_of(view: View, host: str, counted: int) -> int:
    """How many chips the operators of a host are spread over. In: how many PyTorch counted; 0: nobody asked it."""
    if view.desired.settings.chip.torch_device == CPU:
        return 1
    return counted or len(view.probed.observed[host].chips.chips) or 1
