"""The statistics of ``eval``, against published examples, and against the libraries called on their own."""

from __future__ import annotations

import importlib
import math
import sys

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from r1deploy.assurance import evalstats
from r1deploy.assurance.evalstats import (
    Interval,
    Pairs,
    by_question,
    holm,
    mcnemar,
    newcombe,
    paired,
    paired_means,
    sign_flips,
    smallest_drop,
    two_proportions,
    wilson,
)
from r1deploy.errors import PreflightError

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
PAIRS = st.builds(Pairs, *(st.integers(0, 60),) * 4).filter(lambda pairs: pairs.questions > 0)


def near(found: Interval, low: float, high: float, places: float = 5e-5) -> bool:
    return abs(found.low - low) <= places and abs(found.high - high) <= places


# Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3.
@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(right: int, n: int, low: float, high: float) -> None:
    assert near(wilson(right, n), low, high)


# Newcombe, Interval estimation for the difference between independent proportions, 1998, table II, method 10.
@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_newcombe_as_published(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    assert near(newcombe(*counts), low, high)


# Airway hyper-responsiveness before and after transplantation (Bentur 2009), as Fagerland, Lydersen and Laake (2014)
# give it: exact p 0.070, mid-p 0.039, Newcombe's interval -0.507 to -0.026.
BENTUR = Pairs(1, 1, 7, 12)


def test_pairs_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    assert near(paired(BENTUR), -0.507, -0.026, 5e-4)
    assert mcnemar(BENTUR) == (pytest.approx(0.0703125), "exact McNemar")
    monkeypatch.setattr(evalstats, "MID_P_FROM", 8)
    assert mcnemar(BENTUR) == (pytest.approx(0.0390625), "mid-p McNemar")


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_is_the_binomial_test_of_what_changed(here: int, there: int) -> None:
    p, test = mcnemar(Pairs(5, here, there, 5))
    exact = stats.binomtest(here, here + there).pvalue if here + there else 1.0
    if here + there < evalstats.MID_P_FROM:
        assert (p, test) == (pytest.approx(exact), "exact McNemar")
    else:
        tail = stats.binom.cdf(min(here, there), here + there, 0.5)
        point = stats.binom.pmf(here, here + there, 0.5)
        assert (p, test) == (pytest.approx(2 * tail - point), "mid-p McNemar")
        assert 0 < p <= exact


@given(COUNTS)
def test_wilson_holds_the_share_and_is_scipys(counts: tuple[int, int]) -> None:
    right, n = counts
    found, other = wilson(right, n), wilson(n - right, n)
    scipys = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    assert 0 <= found.low <= right / n <= found.high <= 1
    assert near(found, scipys.low, scipys.high, 1e-9)
    assert near(other, 1 - found.high, 1 - found.low, 1e-9), "right and wrong are the same question"


@given(st.integers(2, 300).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_wilson_rises_with_the_answers(counts: tuple[int, int]) -> None:
    right, n = counts
    less, more = wilson(right - 1, n), wilson(right, n)
    assert less.low < more.low and less.high < more.high
    twice = wilson(2 * right, 2 * n)
    assert twice.high - twice.low < more.high - more.low, "more questions, a narrower interval"


@given(COUNTS, COUNTS)
def test_newcombe_holds_the_difference_and_turns_around(one: tuple[int, int], other: tuple[int, int]) -> None:
    found, back = newcombe(*one, *other), newcombe(*other, *one)
    difference = one[0] / one[1] - other[0] / other[1]
    assert -1 <= found.low <= difference + 1e-12 and difference - 1e-12 <= found.high <= 1
    assert near(back, -found.high, -found.low, 1e-9)


@given(COUNTS, COUNTS)
def test_two_proportions_is_the_chi_square_test(one: tuple[int, int], other: tuple[int, int]) -> None:
    p = two_proportions(*one, *other)
    assert p == pytest.approx(two_proportions(*other, *one))
    table = [[one[0], one[1] - one[0]], [other[0], other[1] - other[0]]]
    if 0 in numpy.sum(table, axis=0):
        assert p == 1
    else:
        assert p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, abs=1e-9)


@given(PAIRS)
def test_the_paired_interval_holds_the_difference_and_turns_around(pairs: Pairs) -> None:
    found = paired(pairs)
    back = paired(Pairs(pairs.both, pairs.there, pairs.here, pairs.neither))
    difference = (pairs.here - pairs.there) / pairs.questions
    assert -1 <= found.low <= difference + 1e-9 and difference - 1e-9 <= found.high <= 1
    assert near(back, -found.high, -found.low, 1e-9)
    assert found.low < found.high, "also where nothing changed"


def test_pairs_that_hang_together_give_a_narrower_interval() -> None:
    pairs = Pairs(80, 5, 5, 10)
    apart = newcombe(85, 100, 85, 100)
    assert apart.low < paired(pairs).low < 0 < paired(pairs).high < apart.high


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([]) == [] and holm([0.5]) == [0.5]


@settings(max_examples=10)  # statsmodels collects garbage in each call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_keeps_the_order_and_lowers_nothing(ps: list[float]) -> None:
    found = holm(ps)
    ranks = sorted(range(len(ps)), key=lambda index: ps[index])
    expected, highest = [0.0] * len(ps), 0.0
    for place, index in enumerate(ranks):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[index]))
        expected[index] = highest
    assert found == pytest.approx(expected)
    assert all(after >= before for before, after in zip(ps, found, strict=True))


def test_a_bootstrap_draws_questions_and_says_the_same_twice() -> None:
    means = [0.0] * 10 + [0.5] * 10 + [1.0] * 20
    found = by_question(means)
    assert found is not None and found == by_question(means)
    assert found.low < numpy.mean(means) < found.high
    half = 1.96 * float(numpy.std(means)) / math.sqrt(len(means))
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert by_question([0.5] * 9) is None


def test_repeats_of_a_question_make_no_more_questions() -> None:
    """Three answers that are always the same are worth one."""
    once = by_question([1.0] * 30 + [0.0] * 10)
    assert once is not None
    as_if = wilson(90, 120)
    assert once.high - once.low > 1.5 * (as_if.high - as_if.low)


@pytest.mark.parametrize(("here", "there"), [(8, 2), (5, 5), (10, 0), (3, 1)])
def test_sign_flips_of_single_answers_are_the_exact_mcnemar(here: int, there: int) -> None:
    flips = sign_flips([1.0] * here + [-1.0] * there + [0.0] * 7)
    assert flips == pytest.approx(mcnemar(Pairs(3, here, there, 4))[0])
    assert sign_flips([0.0, 0.0]) == 1


def test_sign_flips_of_many_are_drawn_from_a_seed() -> None:
    differences = [0.5] * 40 + [-0.25] * 25
    assert sign_flips(differences) == sign_flips(differences) < 0.01


@pytest.mark.parametrize(
    ("share", "n", "points"),
    [(0.9575, 1319, 2.5), (0.8534, 14042, 1.2), (0.89, 1346, 3.6), (0.932, 500, 5.2), (0.702, 198, 13.5)],
)
def test_the_smallest_drop_has_a_power_of_80_percent(share: float, n: int, points: float) -> None:
    """Against 20 000 draws, in which the test is done by hand."""
    drop = smallest_drop(share, n, n)
    assert drop is not None and 100 * drop == pytest.approx(points, abs=0.05)
    draw = numpy.random.default_rng(1)
    one, other = draw.binomial(n, share, 20_000), draw.binomial(n, share - drop, 20_000)
    pool = (one + other) / (2 * n)
    z = (one - other) / n / numpy.sqrt(numpy.maximum(pool * (1 - pool) * 2 / n, 1e-12))
    assert float(numpy.mean(numpy.abs(z) > 1.959964)) == pytest.approx(0.80, abs=0.02)


@settings(max_examples=30)
@given(st.floats(0.3, 0.99), st.integers(100, 2000))
def test_more_questions_see_a_smaller_drop(share: float, n: int) -> None:
    few, many = smallest_drop(share, n, n), smallest_drop(share, 4 * n, 4 * n)
    assert few is not None and many is not None and many < few < share


def test_too_few_questions_see_no_drop() -> None:
    assert smallest_drop(0.5, 3, 3) is None and smallest_drop(0.0, 100, 100) is None


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.stats.proportion", None)
    with pytest.raises(PreflightError, match="statsmodels") as caught:
        wilson(1, 2)
    assert caught.value.code == "STATISTICS_MISSING"
    assert caught.value.fix == "pip install 'r1deploy[eval]'"


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    importlib.reload(evalstats)
    assert not {"numpy", "scipy", "statsmodels"} & set(vars(evalstats))


def test_one_difference_has_no_p_but_one() -> None:
    assert sign_flips([0.0, 0.5]) == 1.0 == sign_flips([-0.25])


@pytest.mark.parametrize("changed", [0, 1, 2, 9])
def test_the_interval_of_paired_means_is_no_narrower_than_the_bootstrap(changed: int) -> None:
    pairs = [(1.0, 0.5)] * changed + [(0.5, 0.5)] * 10 + [(1.0, 1.0)] * 10
    found, drawn = paired_means(pairs), by_question([here - there for here, there in pairs])
    mean = sum(here - there for here, there in pairs) / len(pairs)
    assert found.low < mean < found.high and found.low < 0 < found.high
    assert drawn is None or (found.low <= drawn.low and drawn.high <= found.high)


def test_shares_that_are_0_and_1_have_the_interval_of_pairs() -> None:
    rows = [(1.0, 1.0)] * 80 + [(1.0, 0.0)] * 6 + [(0.0, 1.0)] * 4 + [(0.0, 0.0)] * 10
    found, known = paired_means(rows), paired(Pairs(80, 6, 4, 10))
    assert (found.low, found.high) == (pytest.approx(known.low, abs=0.02), pytest.approx(known.high, abs=0.02))
