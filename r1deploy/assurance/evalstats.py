"""The statistics of ``eval``: intervals and tests, from statsmodels and SciPy where they have them. Pure.

Shares lie between 0 and 1. Every interval is one of 95 %, every test two-sided.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import correlation, fmean
from typing import Any

from r1deploy.errors import PreflightError

ALPHA = 0.05
POWER = 0.8
# From this many questions on that changed, McNemar's test is the mid-p one: the exact one keeps too far below 5 %.
MID_P_FROM = 25
# The same run judged twice says the same.
SEED, RESAMPLES, BATCH = 20250120, 9999, 100


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``: shares, or differences of shares."""

    low: float
    high: float


@dataclass(frozen=True)
class Pairs:
    """Questions that two runs answered: both right, only here, only there, neither."""

    both: int
    here: int
    there: int
    neither: int

    @property
    def questions(self) -> int:
        """How many there are."""
        return self.both + self.here + self.there + self.neither


def _library(name: str) -> Any:
    """A library that only ``eval`` needs: see pyproject.toml, ``eval``. Raises PreflightError."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"the statistics of eval need statsmodels and SciPy: {error}"
        raise PreflightError("STATISTICS_MISSING", message, fix="pip install 'r1deploy[eval]'") from error


def _proportions() -> Any:
    return _library("statsmodels.stats.proportion")


def wilson(right: float, questions: int) -> Interval:
    """Wilson's interval of a share. In: how many are right, of how many."""
    low, high = _proportions().proportion_confint(right, questions, alpha=ALPHA, method="wilson")
    share = right / questions
    # At 0 and 1 the bound is the share itself, but for rounding.
    return Interval(min(max(0.0, float(low)), share), max(min(1.0, float(high)), share))


def newcombe(here: float, here_of: int, there: float, there_of: int) -> Interval:
    """Newcombe's interval of the difference here − there of two independent shares (1998, method 10)."""
    found = _proportions().confint_proportions_2indep(
        here, here_of, there, there_of, alpha=ALPHA, method="newcomb", compare="diff"
    )
    return Interval(*(float(bound) for bound in found))


def two_proportions(here: float, here_of: int, there: float, there_of: int) -> float:
    """p of no difference between two independent shares, with the pooled variance."""
    if here / here_of == there / there_of:
        return 1.0
    return float(_proportions().proportions_ztest([here, there], [here_of, there_of])[1])


def mcnemar(pairs: Pairs) -> tuple[float, str]:
    """(p of no difference between two paired shares, the test's name): exact, mid-p for many changed questions."""
    changed = pairs.here + pairs.there
    table = [[pairs.both, pairs.here], [pairs.there, pairs.neither]]
    exact = float(_library("statsmodels.stats.contingency_tables").mcnemar(table, exact=True).pvalue)
    if changed < MID_P_FROM:
        return exact, "exact McNemar"
    # Neither library has the mid-p: half of the probability of what was seen goes off both tails.
    seen = float(_library("scipy.stats").binom.pmf(pairs.here, changed, 0.5))
    return exact - seen if pairs.here != pairs.there else 1.0, "mid-p McNemar"


def paired(pairs: Pairs) -> Interval:
    """Newcombe's interval of the difference here − there of two paired shares (1998, method 10).

    Neither library has it. It says something where no question changed, which Wald's and a bootstrap do not.
    """
    n = pairs.questions
    return _of_shares((pairs.both + pairs.here) / n, (pairs.both + pairs.there) / n, n, _phi(pairs))


def _of_shares(p: float, q: float, n: int, phi: float) -> Interval:
    """Of p − q, from Wilson's interval of each. In: both shares, of how many questions, how they go together."""
    one, other = wilson(p * n, n), wilson(q * n, n)

    def reach(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))

    low, high = p - q - reach(p - one.low, other.high - q), p - q + reach(one.high - p, q - other.low)
    return Interval(max(-1.0, low), min(1.0, high))


def _phi(pairs: Pairs) -> float:
    """The correlation of the pairs, with Newcombe's correction for continuity."""
    here, there, n = pairs.both + pairs.here, pairs.both + pairs.there, pairs.questions
    margins = here * (n - here) * there * (n - there)
    cross = pairs.both * pairs.neither - pairs.here * pairs.there
    corrected = max(cross - n / 2, 0.0) if cross > 0 else float(cross)
    return corrected / math.sqrt(margins) if margins else 0.0


def by_question(means: Sequence[float]) -> Interval | None:
    """The bootstrap's interval of a mean: whole questions are drawn, since repeats of one are not independent.

    In: a mean a question. Out: None where all are equal, for then a bootstrap says nothing.
    """
    if len(set(means)) < 2:
        return None
    mean: Callable[..., Any] = _library("numpy").mean
    found = _library("scipy.stats").bootstrap(
        (means,), mean, n_resamples=RESAMPLES, batch=BATCH, method="percentile", confidence_level=1 - ALPHA, rng=SEED
    )
    return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired_means(pairs: Sequence[tuple[float, float]]) -> Interval:
    """The interval of the mean difference here − there of paired shares, one pair a question.

    The bootstrap's, and at the least as wide as Newcombe's with the correlation of the shares: where few questions
    differ, a bootstrap draws the others only and takes a handful of questions for certain.
    """
    here, there = [one for one, _ in pairs], [other for _, other in pairs]
    various = len(set(here)) > 1 and len(set(there)) > 1
    phi = correlation(here, there) if various else 0.0
    whole = _of_shares(fmean(here), fmean(there), len(pairs), phi)
    drawn = by_question([one - other for one, other in pairs]) or whole
    return Interval(min(drawn.low, whole.low), max(drawn.high, whole.high))


def sign_flips(differences: Sequence[float]) -> float:
    """p of no difference between paired means: each difference might as well have the other sign.

    In: here − there, one a question. What is 0 has no sign, and nothing to say.
    """
    told = [difference for difference in differences if difference]
    # One alone is as large with the other sign.
    if len(told) < 2:
        return 1.0
    total: Callable[..., Any] = _library("numpy").sum
    found = _library("scipy.stats").permutation_test(
        (told,), total, permutation_type="samples", n_resamples=RESAMPLES, batch=BATCH, vectorized=True, rng=SEED
    )
    return min(1.0, float(found.pvalue))


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of one family after Holm, in the order in which they came."""
    if not ps:
        return []
    found = _library("statsmodels.stats.multitest").multipletests(ps, alpha=ALPHA, method="holm")
    return [float(p) for p in found[1]]


def smallest_drop(share: float, there_of: int, here_of: int) -> float | None:
    """The smallest drop from ``share`` that the two-proportion test shows with a power of 80 %. None: not any.

    In: the share there, how many questions there and here.
    """
    power = _proportions().power_proportions_2indep

    def lacks(drop: float) -> float:
        ratio = there_of / here_of
        return float(power(-drop, share, here_of, ratio=ratio, alpha=ALPHA, return_results=False)) - POWER

    least, most = share * 1e-6, share * (1 - 1e-6)
    if not least < most or lacks(most) < 0:
        return None
    return float(_library("scipy.optimize").brentq(lacks, least, most))
