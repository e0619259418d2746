"""The judge of ``eval``: the right test, an honest verdict, none where answers were cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from r1deploy.assurance.evalcolumns import Column, published
from r1deploy.assurance.evalcompare import compare, first_difference, unlike
from r1deploy.assurance.evaljudge import Judged, judge, of_the_page
from r1deploy.assurance.evalrows import SETS, Score, SetName
from r1deploy.planning.shardfindings import Memory, fits, memory_of
from r1deploy.settings.load import load
from tests.unit.evaluations import OTHER, column, first_right, run, scores, settings


def row_of(here: Column, there: Column, name: SetName, memory: Memory | None = None) -> Judged:
    """The judgement of one set, with a margin of 2 points."""
    return next(row for row in judge(here, there, 2.0, memory).rows if row.set == name)


def test_the_page_is_judged_as_everything_else() -> None:
    int8, int4 = of_the_page(2.0)
    assert [(row.set, row.verdict) for row in int8.rows] == [
        ("gsm8k", "agrees"),
        ("mmlu", "differs"),
        ("ceval", "differs"),
        ("math_500", "no verdict"),
        ("gpqa_diamond", "no verdict"),
        ("aime24", "no verdict"),
    ]
    assert {row.set: row.verdict for row in int4.rows if row.measured} == {"mmlu": "agrees", "ceval": "not shown"}
    ps = [row.measured.p for row in int8.rows if row.measured]
    assert ps == pytest.approx([0.78203107, 5.0915886e-13, 3.9787407e-10], rel=1e-6)
    adjusted = [row.adjusted for row in int8.rows if row.measured]
    assert adjusted == pytest.approx([ps[0], 3 * ps[1], 2 * ps[2]])
    assert all(row.measured.p >= 0.40 for row in int4.rows if row.measured)


@pytest.mark.parametrize("name", ["gsm8k", "mmlu", "ceval"])
def test_a_row_of_the_page_is_what_statsmodels_says(name: SetName) -> None:
    found = row_of(published("INT8"), published("H100"), name).measured
    n, shares = SETS[name].size, SETS[name].published
    counts = [n * shares["INT8"] / 100, n * shares["H100"] / 100]
    assert found and found.test == "two-proportion" and not found.paired
    assert found.p == pytest.approx(proportions_ztest(counts, [n, n])[1])
    low, high = confint_proportions_2indep(counts[0], n, counts[1], n, method="newcomb", compare="diff")
    assert (found.interval.low, found.interval.high) == (pytest.approx(low), pytest.approx(high))


def test_the_docs_say_what_is_computed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "vendor-page.md").read_text(encoding="utf-8")
    int8, int4 = ({row.set: row for row in found.rows} for found in of_the_page(2.0))

    def told(row: Judged, percent: float | None) -> list[str]:
        p = row.measured.p if row.measured else None
        return [
            "TBD" if percent is None else f"{percent:.2f}",
            "-" if p is None else f"{p:.0e}" if p < 0.001 else f"{p:.2g}",
            row.verdict,
        ]

    for name, row in SETS.items():
        cells = [row.shown, str(row.size), f"{row.published['H100']:.2f}"]
        cells += told(int8[name], row.published.get("INT8")) + told(int4[name], row.published.get("INT4"))
        assert f"| {' | '.join(cells)} |" in page
    for name, low, high in (("mmlu", "2.3", "4.0"), ("ceval", "6.0", "11.4")):
        found = int8[name].measured
        assert found and (f"{-100 * found.interval.high:.1f}", f"{-100 * found.interval.low:.1f}") == (low, high)
    assert "2.3 to 4.0 points lower, on C-Eval 6.0 to 11.4" in page


def test_pairs_where_the_questions_are_the_same() -> None:
    here = column(scores("gsm8k", first_right(80, 100)))
    there = column(scores("gsm8k", first_right(90, 100)), "H100")
    found = row_of(here, there, "gsm8k").measured
    assert found and found.paired and found.test == "exact McNemar" and found.questions == 100
    assert found.p == pytest.approx(2 / 2**10) and found.difference == pytest.approx(-0.1)


def test_no_pairs_where_the_data_is_another() -> None:
    here = column(scores("gsm8k", first_right(80, 100)))
    there = column(scores("gsm8k", first_right(90, 100)), "H100", data={"gsm8k": OTHER})
    found = row_of(here, there, "gsm8k")
    assert found.measured and found.measured.test == "two-proportion" and not found.measured.paired
    assert found.measured.p == pytest.approx(stats.chi2_contingency([[80, 20], [90, 10]], correction=False).pvalue)


def test_a_few_of_the_questions_pair_with_those_of_a_whole_run() -> None:
    here = column(scores("gsm8k", first_right(10, 20)), settings=settings(limit=20))
    found = row_of(here, column(scores("gsm8k", first_right(90, 100)), "H100"), "gsm8k").measured
    assert found and found.questions == 20 and found.difference == pytest.approx(-0.5)


def test_repeats_are_judged_by_question() -> None:
    here = column(scores("aime24", [[True, False]] * 10 + [[True, True]] * 20))
    there = column(scores("aime24", [[True, True]] * 30), "H100")
    found = row_of(here, there, "aime24").measured
    assert found and found.test == "sign flips by question" and found.questions == 30
    assert found.p == pytest.approx(2 / 2**10) and found.difference == pytest.approx(-1 / 6)
    assert found.interval.low < -1 / 6 < found.interval.high < 0
    assert here.cells["aime24"].how == "bootstrap by question" and there.cells["aime24"].how == "Wilson"
    assert here.cells["aime24"].questions == 30 and here.cells["aime24"].answers == 60


def test_repeats_that_all_differ_alike_have_an_interval() -> None:
    here, there = (column(scores("aime24", [row] * 30), title) for row, title in (([True, False], "a"), ([True], "b")))
    found = row_of(here, there, "aime24").measured
    assert found and found.interval.low < -0.5 < found.interval.high


def test_one_question_of_ten_that_differs_in_one_of_two_answers_proves_nothing() -> None:
    """A bootstrap alone would end at 0, and ten questions would agree by two points."""
    here = column(scores("aime24", [[True, True]] * 10), "here")
    there = column(scores("aime24", [[True, True]] * 9 + [[True, False]]), "there")
    found = row_of(here, there, "aime24")
    assert found.measured and found.measured.p == 1 and found.verdict == "not shown"
    assert found.measured.interval.low < -0.2 and found.measured.difference == pytest.approx(0.05)


def test_the_first_questions_of_each_subject_are_no_sample_of_the_page() -> None:
    few = settings(limit=50)
    found = row_of(column(scores("mmlu", first_right(2432, 2850)), settings=few), published("H100"), "mmlu")
    assert (found.verdict, found.measured) == ("no verdict", None) and "only the first 50 questions" in found.why
    whole = row_of(column(scores("aime24", first_right(21, 30)), settings=few), published("H100"), "aime24")
    assert whole.measured, "a limit that leaves no question out is none"


@pytest.mark.parametrize(
    ("right", "verdict", "words"),
    [
        (13450, "agrees", "lower by less than 2 points, if at all"),
        (13350, "agrees", "; that it is lower is shown"),
        (13000, "differs", "it is lower, by more than 2 points"),
        (13610, "agrees", "; that it is higher is shown"),
        (13220, "differs", "it is lower"),
        (13950, "differs", "it is higher, by more than 2 points"),
    ],
)
def test_a_verdict_of_a_large_set(right: int, verdict: str, words: str) -> None:
    """Against 13 480 of 14 042 over other data."""
    there = column(scores("mmlu", first_right(13480, 14042)), "H100", data={"mmlu": OTHER})
    found = row_of(column(scores("mmlu", first_right(right, 14042))), there, "mmlu")
    assert (found.verdict, words in found.why) == (verdict, True), found.why


def test_a_small_set_shows_nothing_and_says_what_it_would() -> None:
    found = row_of(column(scores("aime24", first_right(21, 30))), published("H100"), "aime24")
    assert found.verdict == "not shown" and found.seen == pytest.approx(0.3485, abs=1e-4)
    assert "so many questions show a drop of 34.9 points with 80 % power" in found.why


def test_an_equal_run_of_few_questions_does_not_agree() -> None:
    """No question changed; but ten questions say little of two points."""
    here, there = (column(scores("aime24", first_right(10, 10)), title) for title in ("ours", "H100"))
    found = row_of(here, there, "aime24")
    assert found.measured and found.measured.p == 1 and found.verdict == "not shown"


def test_holm_turns_a_verdict() -> None:
    """p = .04 by itself is a difference; among three sets it is none."""
    here, there = first_right(84, 100), first_right(90, 100)
    alone = judge(column(scores("gsm8k", here)), column(scores("gsm8k", there), "H100"), 2.0).rows
    assert alone[0].verdict == "differs" and alone[0].measured and alone[0].adjusted == alone[0].measured.p < 0.05
    more = [*scores("mmlu", there), *scores("ceval", there)]
    rows = judge(column([*scores("gsm8k", here), *more]), column([*scores("gsm8k", there), *more], "H100"), 2.0).rows
    assert rows[0].measured and rows[0].adjusted == pytest.approx(3 * rows[0].measured.p)
    assert rows[0].verdict == "not shown"


def cut(number: int, of: int, **more: int) -> list[Score]:
    rows = scores("math_500", first_right(of, of), **more)
    return [row.model_copy(update={"cut": True}) if index < number else row for index, row in enumerate(rows)]


def test_two_percent_cut_is_judged_and_more_is_not() -> None:
    at_most = row_of(column(cut(2, 100)), published("H100"), "math_500")
    assert at_most.measured and at_most.verdict != "no verdict"
    more = judge(column([*cut(3, 100), *scores("gsm8k", first_right(90, 100))]), published("H100"), 2.0)
    rows = {row.set: row for row in more.rows}
    assert rows["math_500"].verdict == "no verdict" and rows["math_500"].measured is None
    assert rows["math_500"].why.startswith("3.0 % of the answers of ours were cut by length (more than 2 %): ")
    assert rows["gsm8k"].measured and rows["gsm8k"].adjusted == rows["gsm8k"].measured.p, "Holm is over what is tested"


def test_cut_answers_there_leave_no_verdict_either() -> None:
    found = row_of(column(cut(0, 100)), column(cut(3, 100), "other"), "math_500")
    assert found.verdict == "no verdict" and "answers of other were cut" in found.why


CHIPS = Memory(20000.0, 26214.4, 16, "the sum")


@pytest.mark.parametrize(
    ("column", "memory", "words"),
    [
        (
            column(cut(9, 100, prompt_tokens=900), settings=settings(max_model_len=5120)),
            CHIPS,
            "it takes engine.max_model_len 33668 (32768 + 900 of the largest prompt); max_tokens was 4096. The chips' "
            "memory holds 10 such answers at a time by arithmetic: 16 layers × 33668 × 1152 bytes = 592 MiB of "
            "6214 MiB beside the weights (the sum).",
        ),
        (column(cut(9, 100)), None, "it takes engine.max_model_len 32768 and the prompt's tokens, which are not known"),
        (column(cut(9, 100)), None, "that is not known: the weights' size is missing"),
        (column(cut(9, 100)), Memory(1.0, 2.0, None, ""), "that is not known: the number of layers is missing"),
        (column(cut(9, 100)), Memory(26000.0, 26214.4, 16, "the sum"), "memory does not hold that: 16 layers"),
        (
            column(cut(9, 100, prompt_tokens=900), settings=settings(max_model_len=40960)),
            CHIPS,
            "max_tokens was 4096, though max_model_len 40960 holds 32768: ask for more",
        ),
        (
            column(cut(9, 100), settings=settings(max_tokens=32768)),
            CHIPS,
            "so a longer max_model_len is not known to help",
        ),
        (
            column(cut(9, 100, prompt_tokens=900), settings=settings(max_tokens=32768, max_model_len=5120)),
            CHIPS,
            "it takes engine.max_model_len 33668 (32768 + 900 of the largest prompt); max_tokens was 32768.",
        ),
    ],
)
def test_cut_answers_say_what_it_takes(column: Column, memory: Memory | None, words: str) -> None:
    assert words in row_of(column, published("H100"), "math_500", memory).why


def test_the_memory_is_that_of_preflight(tmp_path: Path) -> None:
    (tmp_path / "r1deploy.yaml").write_text("cluster: c\nprofile: iluvatar-bi-v150\n", encoding="utf-8")
    found = load(tmp_path, {}, {}).settings
    memory = memory_of(found, 671 * 10**9, 61)
    assert memory.layers == 16 and memory.weights == pytest.approx(671e9 * 16 / 61 / 8 / 2**20)
    assert memory.room == pytest.approx(32768 * 0.8)
    assert fits(found, 671 * 10**9, 61) == (True, memory.said)
    assert memory_of(found, 671 * 10**9, None).layers is None


def test_two_runs_are_compared_question_by_question() -> None:
    here = column([*scores("gsm8k", [[True], [True], [False], [False]]), *scores("mmlu", [[True]])], "B")
    there = column([*scores("gsm8k", [[True], [False], [True], [True]]), *scores("ceval", [[True]])], "A")
    found = compare(here, there)
    assert [(row.set, row.questions, row.here, row.there, row.share) for row in found.agreements] == [
        ("gsm8k", 4, 1, 2, 0.25)
    ]
    assert [(row.question, row.here, row.there) for row in found.flips] == [("1", 1, 0), ("2", 0, 1), ("3", 0, 1)]
    reasons = {row.set: row.why for row in found.judgement.rows if row.verdict == "no verdict"}
    assert reasons == {"mmlu": "A has no number", "ceval": "B has no number"}
    with pytest.raises(ValueError, match="no questions"):
        compare(here, published("H100"))


def test_a_comparison_turns_around() -> None:
    here, there = column(scores("gsm8k", first_right(70, 100)), "B"), column(scores("gsm8k", first_right(60, 100)), "A")
    one, other = (compare(*both).judgement.rows[0].measured for both in ((here, there), (there, here)))
    assert one and other and one.p == pytest.approx(other.p) and one.difference == -other.difference
    assert one.interval.low == pytest.approx(-other.interval.high)


def test_with_repeats_a_question_flips_by_most_of_its_answers() -> None:
    here = column(scores("aime24", [[True, True, False], [True, False, False]]), "B")
    there = column(scores("aime24", [[True, True, True], [True, True, False]]), "A")
    assert [row.question for row in compare(here, there).flips] == ["1"]


def test_what_two_runs_do_not_share_is_said() -> None:
    rows = scores("gsm8k", [[True]])
    one = run(rows, settings=settings(temperature=0.0), versions={"evalscope": "1"})
    other = run(rows, data={"gsm8k": OTHER}, versions={"evalscope": "2", "r1deploy": "3"})
    assert unlike(one, one) == []
    assert unlike(one, other) == [
        "temperature: 0.0, 0.6",
        "version of evalscope: 1, 2",
        "version of r1deploy: none, 3",
        "the data of GSM8K: so there are no pairs",
    ]


@pytest.mark.parametrize(
    ("here", "there", "parts"),
    [
        (["a", "b"], ["a", "c"], (1, "b", "c")),
        (["a"], ["a", "c"], (1, "", "c")),
        ([], ["c"], (0, "", "c")),
        (["x" * 300], ["y"], (0, "x" * 256, "y")),
    ],
)
def test_where_two_answers_part(here: list[str], there: list[str], parts: tuple[int, str, str]) -> None:
    found = first_difference("gsm8k", "7", here, there)
    assert found and (found.index, found.here, found.there) == parts and found.question == "7"


def test_equal_answers_do_not_part() -> None:
    assert first_difference("gsm8k", "7", ["a", "b"], ["a", "b"]) is None
