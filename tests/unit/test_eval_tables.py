"""The tables of ``eval``: one model, drawn three times; nothing in it is markup, and every number has its file."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from r1deploy.assurance.evalcolumns import Column, published
from r1deploy.assurance.evalcompare import compare
from r1deploy.assurance.evaljudge import judge, of_the_page
from r1deploy.assurance.evalrows import SETS, FirstDifference
from r1deploy.ui import evaldocument, evaltables
from r1deploy.ui.evaltables import Table
from tests.unit.evaluations import column, first_right, scores, settings

HOSTILE = "<script>alert(1)</script>|`x`\n[a](b) \x1b[2J"


@pytest.fixture(autouse=True)
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def whole(title: str) -> Column:
    """All six sets, at their sizes, with what takes most room."""
    return column(
        [row for name, one in SETS.items() for row in scores(name, first_right(one.size // 3, one.size))], title
    )


def tables() -> list[Table]:
    few = settings(limit=30, repeats=2)
    here = column(scores("aime24", [[True, False]] * 30), "ninechars", settings=few)
    there = column(scores("aime24", [[number % 2 == 0] for number in range(30)]), "ninechar2")
    hostile = FirstDifference(set="gpqa_diamond", question="q" * 256, index=2**19, here=HOSTILE, there="t" * 256)
    published_ = [published("H100"), published("INT8")]
    return [
        evaltables.scores(whole("ours"), published_),
        evaltables.scores(here, published_),
        evaltables.verdicts(judge(whole("ninechars"), published("H100"), 2.0)),
        *map(evaltables.verdicts, of_the_page(2.0)),
        *evaltables.comparison(compare(here, there, [hostile])),
    ]


TABLES = tables()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_a_table_fits_the_screen_and_names_its_files(table: Table) -> None:
    assert {len(row) for row in table.rows} <= {len(table.head)}
    drawn = evaltables.text(table)
    assert max(map(len, drawn)) <= 80
    assert any(".json" in line or "vendor-page.md" in line for line in drawn)
    assert not any("\x1b" in line for line in drawn)


def test_the_page_as_text() -> None:
    drawn = evaltables.text(evaltables.verdicts(of_the_page(2.0)[0]))
    assert drawn[:5] == [
        "INT8 against H100",
        "  set          H100  INT8  points 95 %         p     Holm  verdict",
        "  GSM8K        95.75 95.53 -0.22  -1.8 – +1.4  0.78  0.78  agrees",
        "  MMLU         85.34 82.16 -3.18  -4.0 – -2.3  5e-13 2e-12 differs",
        "  C-Eval       89.00 80.31 -8.69  -11.4 – -6.0 4e-10 8e-10 differs",
    ]
    assert "  MATH-500, GPQA-Diamond, AIME 2024: no verdict: INT8 has no number" in drawn
    assert "  margin: 2 points lower, stated before the run" in drawn
    assert "  two-proportion: GSM8K (n 1319), MMLU (n 14042), C-Eval (n 1346)" in drawn


def test_a_run_of_a_few_questions_with_repeats_says_so() -> None:
    below = TABLES[1].below
    assert "ninechars: the mean of 2 answers to each question" in below
    assert "ninechars: the first 30 questions of each subject, which are no random sample" in below


def test_a_long_list_ends_on_the_screen_only() -> None:
    table = Table("t", ("a", "b"), tuple((str(number), "x") for number in range(30)), ("one.json",))
    assert "  and 10 more" in evaltables.text(table) and len(evaltables.text(table)) == 24
    assert "| 29 | x |" in evaltables.markdown([table]) and "<td>29</td>" in evaltables.page("t", [table])
    assert evaltables.text(Table("t", ("a",), (), ())) == ["t", "  none"]


class Seen(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_loads_nothing_and_holds_every_cell() -> None:
    seen = Seen()
    seen.feed(evaltables.page(HOSTILE, TABLES))
    names = {tag for tag, _ in seen.tags}
    assert names & {"script", "link", "img", "iframe", "a", "object", "embed"} == set()
    assert {name for _, attrs in seen.tags for name, _ in attrs} <= {"lang", "charset", "http-equiv", "content"}
    cells = [text for table in TABLES for row in (table.head, *table.rows) for text in row]
    assert sum(tag in ("td", "th") for tag, _ in seen.tags) == len(cells)
    assert "url(" not in "".join(seen.texts) and "@import" not in "".join(seen.texts)
    assert any("<script>alert(1)</script>" in text for text in seen.texts)


def test_markdown_is_tables_of_text_only() -> None:
    text = evaltables.markdown(TABLES)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    kinds = [token.type for token in tokens]
    assert kinds.count("table_open") == len(TABLES)
    cells = [text for table in TABLES for row in (table.head, *table.rows) for text in row]
    assert kinds.count("td_open") + kinds.count("th_open") == len(cells)
    inner = {child.type for token in tokens for child in token.children or ()}
    assert inner <= {"text", "text_special"} and "html_block" not in kinds


def test_json_holds_what_the_tables_say() -> None:
    here, there = column(scores("gsm8k", first_right(70, 100)), "B"), column(scores("gsm8k", first_right(60, 100)), "A")
    found = json.loads(json.dumps(evaldocument.comparison_document(compare(here, there)), allow_nan=False))
    (row,) = found["judgement"]["sets"]
    assert row["set"] == "gsm8k" and row["verdict"] == "differs" and row["measured"]["test"] == "exact McNemar"
    assert row["measured"]["difference"] == pytest.approx(0.1) and row["here"]["share"] == 0.7
    assert found["agreements"] == [{"set": "gsm8k", "questions": 100, "here": 10, "there": 0, "share": 0.9}]
    assert len(found["flips"]) == 10 and found["unlike"] == []
    assert [row["source"] for row in found["columns"]] == ["B.json", "A.json"]
    assert "scores" not in found["columns"][0]["run"] and found["columns"][0]["run"]["margin"] == 2.0


def test_no_p_is_0_and_points_of_a_part_are_said_to_be_that() -> None:
    assert evaltables.chance(0.0) == evaltables.chance(1e-310) == "<1e-300"
    here = column(scores("gsm8k", first_right(10, 20)), settings=settings(limit=20))
    there = column(scores("gsm8k", first_right(90, 100)), "there")
    below = evaltables.verdicts(judge(here, there, 2.0)).below
    assert "GSM8K: points are of the n questions that both answered, not of all" in below
    assert not any("that both answered" in row for row in evaltables.verdicts(judge(here, here, 2.0)).below)
