"""``eval`` as a command: the cluster's place is taken by a light engine; kept runs, tables, JSON, two endpoints."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.assurance.evalendpoint import Asked
from r1deploy.assurance.evalkept import EvalPlan, every_kept, opened
from r1deploy.assurance.evalrows import EvalSettings, Score
from r1deploy.cli import main
from r1deploy.errors import ConfigError, GateError
from r1deploy.serving import evalsides
from r1deploy.serving.evalsides import Side, cluster_side
from r1deploy.settings.load import load
from r1deploy.verbs import evaluate as verb
from tests.evalanswers import DATA, answer_rows
from tests.evalengine import MODEL, EvalEngine, engine
from tests.evalhome import eval_home, evalscope
from tests.unit.evaluations import run, scores

__all__ = ["eval_home", "evalscope"]
KEY = "sk-the-key-of-this-test"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployment's folder; nothing of the user's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "inventory.ini").write_text("[cluster]\nnode1 ansible_host=127.0.0.1\n")
    (tmp_path / "r1deploy.yaml").write_text(f"cluster: test\neval: {{data: {DATA}, batch: 8, max_tokens: 4000}}\n")
    return tmp_path


def keep(here: set[int], margin: float = 2.0) -> str:
    """Keep a run of eight questions of which some are right; its id."""
    plan = EvalPlan(
        cluster="test",
        release="r/c",
        model=MODEL,
        endpoint="cluster",
        against="",
        places={},
        versions={"evalscope": "1"},
        settings=EvalSettings(temperature=0.6, top_p=0.95, max_tokens=100, seeds=[1]),
        data={"gsm8k": "0" * 64},
        margin=margin,
    )
    scores = [Score(set="gsm8k", question=f"main/{n}", right=n in here, cut=False) for n in range(8)]
    with opened(plan) as (kept, _):
        return kept.keep(plan, {"gsm8k": 8}, scores).id


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """What a command says with --json."""
    assert main.run(["eval", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_kept_runs_are_listed_shown_and_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = keep(set(range(8))), keep(set(range(4)))
    assert [row["id"] for row in told(capsys, "--list")] == sorted((one, other), reverse=True)
    shown = told(capsys, "--show", one)
    assert shown["ok"] and shown["columns"][0]["run"]["id"] == one
    assert [row["title"] for row in shown["columns"]] == ["ours", "H100", "INT8", "INT4"]
    assert "scores" not in shown["columns"][0]["run"]
    compared = told(capsys, "--compare", one, other)
    assert compared["agreements"][0] == {"set": "gsm8k", "questions": 8, "here": 4, "there": 0, "share": 0.5}
    assert compared["flips_file"] is None, "no answers are kept of these"
    assert main.run(["eval", "--show", one]) == 0
    assert "GSM8K" in capsys.readouterr().out


@pytest.mark.parametrize(("suffix", "part"), [("md", "| GSM8K | 95.75 |"), ("html", "<td>GSM8K</td>")])
def test_the_tables_are_written(folder: Path, capsys: pytest.CaptureFixture[str], suffix: str, part: str) -> None:
    out = folder / f"scores.{suffix}"
    assert main.run(["eval", "--show", keep({1}), "--out", str(out)]) == 0
    assert part in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--list", "--install"], "USAGE"),
        (["--show", "x", "--out", "a.pdf"], "USAGE"),
        (["--limit", "0"], "USAGE"),
        (["--show", "", "--list"], "USAGE"),
        (["--show", "x", "--out", "not/there/a.md"], "USAGE"),
        (["--show", "x", "--out", "/proc/version/a.md"], "USAGE"),
        (["--show", ""], "EVAL_UNKNOWN"),
        (["--show", "20200101"], "EVAL_UNKNOWN"),
        (["--fetch", "x", "--sets", "gsm9k"], "EVAL_SET"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str
) -> None:
    found = told(capsys, "-C", str(folder), *arguments, code=2)
    assert found["error"]["code"] == code


def test_without_evalscope_nothing_is_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "-C", str(folder), code=5)["error"]["code"] == "EVAL_MISSING"


def test_repeats_of_which_one_question_differs_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So were two endpoints asked for hours, and their comparison broke."""
    rows = [[[True, True]] * 8, [[True, True]] * 7 + [[True, False]]]
    paths = []
    for name, answers in zip("ab", rows, strict=True):
        path = folder / f"{name}.json"
        path.write_text(run(scores("gsm8k", answers)).model_dump_json(), encoding="utf-8")
        paths.append(str(path))
    (row,) = told(capsys, "--compare", *paths)["judgement"]["sets"]
    assert (row["verdict"], row["measured"]["p"]) == ("not shown", 1.0)


# What serves on the cluster.


def record(config: str = "c1") -> Any:
    host = SimpleNamespace(name="node1", address="127.0.0.1", files={})
    return SimpleNamespace(release="r1", config=config, model=MODEL, port=1, hosts=(host,))


def view(found: Any, serves: bool | None = True) -> Any:
    serving = SimpleNamespace(record=found, serves=serves)
    return SimpleNamespace(plan=SimpleNamespace(serving=serving), probed=SimpleNamespace(observed={}))


@contextlib.contextmanager
def remote(_: object) -> Iterator[Any]:
    yield SimpleNamespace(forward=None)


RUN: Any = SimpleNamespace(context=None, layout=None, settings=SimpleNamespace(service=SimpleNamespace()), head=remote)


@pytest.mark.parametrize(("found", "serves"), [(None, False), (record(), False), (None, None)])
def test_where_nothing_serves_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, found: Any, serves: bool | None) -> None:
    monkeypatch.setattr(evalsides, "lock_of_any", lambda *_: None)
    monkeypatch.setattr(evalsides, "look", lambda *_: view(found, serves))
    with pytest.raises(GateError) as caught, cluster_side(RUN):
        pass
    assert caught.value.code == "EVAL_SILENT"


def test_another_release_at_the_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [view(record()), view(record()), view(record("c2"))]
    monkeypatch.setattr(evalsides, "lock_of_any", lambda *_: None)
    monkeypatch.setattr(evalsides, "look", lambda *_: views.pop(0))
    with cluster_side(RUN) as side:
        assert (side.release, side.memory) == ("r1/c1", None)
        assert (side.reach().url, side.reach().inside) == ("http://127.0.0.1:1", True)
        side.check()
        with pytest.raises(GateError) as caught:
            side.check()
    assert caught.value.code == "EVAL_CHANGED" and "r1/c2" in caught.value.message


@pytest.mark.parametrize(("code", "goes_on"), [("EVAL_CHANGED", False), ("EVAL_SILENT", True)])
def test_answers_of_two_releases_are_never_gone_on_with(folder: Path, code: str, goes_on: bool) -> None:
    """The first release may serve again when the same command comes."""
    plan = EvalPlan(
        cluster="test", release="r/c", model=MODEL, endpoint="cluster", against="", places={}, versions={},
        settings=EvalSettings(temperature=0.6, top_p=0.95, max_tokens=100, seeds=[1]), data={}, margin=2.0,
    )  # fmt: skip

    def check() -> None:
        raise GateError(code, "it is not as it was")

    with opened(plan) as (kept, _), pytest.raises(GateError):
        verb._still(SimpleNamespace(check=check), SimpleNamespace(folder=kept))  # type: ignore[arg-type]
    with opened(plan) as (_, again):
        assert again is goes_on


def test_max_tokens_that_no_question_fits_beside_is_refused_before(folder: Path) -> None:
    asked: Any = SimpleNamespace(url="u", model=MODEL, models=lambda: {MODEL: 5120}, version=lambda: "1")
    side = Side("u", "r/c", lambda: asked, lambda: None)
    found: Any = SimpleNamespace(settings=load(folder, {"eval.max_tokens": 5120}, {}).settings, say=lambda _: None)
    with pytest.raises(ConfigError) as caught:
        verb._plan(found, verb.Wanted("gsm8k"), side, "")
    assert caught.value.code == "EVAL_LENGTH" and "5120" in caught.value.message


def beside(monkeypatch: pytest.MonkeyPatch, light: EvalEngine) -> None:
    """The light engine takes the cluster's place."""
    asked = Asked(light.url.removesuffix("/v1"), MODEL, light.key or None, inside=True)

    @contextlib.contextmanager
    def side(_: object) -> Iterator[Side]:
        yield Side(asked.url, "r1/c1", lambda: asked, lambda: None)

    monkeypatch.setattr(verb, "cluster_side", side)


@pytest.mark.long
def test_eval_from_the_command_to_the_table(
    eval_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "data"
    rows, scores = answer_rows({"gsm8k": [0]}, {"aime24": [1]})
    with engine(tmp_path / "answers", KEY) as light:
        light.tell(rows)
        (tmp_path / "inventory.ini").write_text("[cluster]\nnode1 ansible_host=127.0.0.1\n")
        (tmp_path / "r1deploy.yaml").write_text(f"cluster: test\neval: {{data: {DATA}, max_tokens: 4000}}\n")
        beside(monkeypatch, light)
        assert home in eval_home.parents
        found = told(capsys, "-C", str(tmp_path), "--sets", "aime24,gsm8k")
        assert {row["max_tokens"] for row in light.record()} == {4000}
    ours = found["columns"][0]
    assert ours["run"]["asked"] == {"gsm8k": scores["gsm8k"].asked, "aime24": scores["aime24"].asked}
    assert ours["sets"]["gsm8k"]["share"] == pytest.approx(scores["gsm8k"].right / scores["gsm8k"].asked)
    assert ours["run"]["versions"] == {"evalscope": "1.14.1", "engine": "0.7.3"}
    verdicts = {row["set"]: row for row in found["judgements"][0]["sets"]}
    assert verdicts["aime24"]["verdict"] == "no verdict" and "cut by length" in verdicts["aime24"]["why"]


@pytest.mark.long
def test_two_endpoints_question_by_question(
    eval_home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "key").write_text("sk-of-the-other-endpoint\n")
    (folder / "key").chmod(0o600)
    with engine(folder / "one", KEY) as light, engine(folder / "two", "sk-of-the-other-endpoint") as other:
        light.tell(answer_rows({}, {})[0])
        other.tell(answer_rows({"math_500": [2]}, {})[0])
        beside(monkeypatch, light)
        arguments = ["-C", str(folder), "--set", "eval.against_key_file=key", "--sets", "math_500"]
        found = told(capsys, *arguments, "--against", other.url)
    assert [row["question"] for row in found["flips"]] == [row["question"] for row in found["first_differences"]]
    (flip,) = [json.loads(line) for line in Path(found["flips_file"]).read_text().splitlines()]
    assert flip["answer_here"] != flip["answer_there"] and flip["here"] == 1.0 and flip["there"] == 0.0
    assert sorted(run.endpoint for run in every_kept()) == ["cluster", "url"]
    files = [path for path in (eval_home / "runs").rglob("*") if path.is_file()]
    assert files and not any("sk-" in path.read_text(errors="replace") for path in files)
