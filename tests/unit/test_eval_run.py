"""``eval`` through the real evalscope, against the light engine on 127.0.0.1: scores, resuming, errors, its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1deploy.assurance import evalinstall
from r1deploy.assurance.evaldata import digest, fetch
from r1deploy.assurance.evalendpoint import Asked
from r1deploy.assurance.evalkept import EvalPlan, opened
from r1deploy.assurance.evalrows import EvalRun, EvalSettings, SetName
from r1deploy.assurance.evalwork import Means, Work
from r1deploy.run import silent
from r1deploy.settings.load import load
from tests import evalanswers
from tests.evalanswers import DATA, answer_rows
from tests.evalengine import MODEL, EvalEngine, engine
from tests.evalhome import eval_home, evalscope

__all__ = ["eval_home", "evalscope"]
KEY = "sk-the-key-of-this-test"


@pytest.fixture
def light(tmp_path: Path) -> Iterator[EvalEngine]:
    with engine(tmp_path / "answers.jsonl", KEY) as made:
        yield made


def plan_of(names: list[SetName], repeats: int = 1, limit: int | None = None, top: Path = DATA) -> EvalPlan:
    settings = EvalSettings(
        temperature=0.6,
        top_p=0.95,
        max_tokens=32768,
        seeds=[7 + number for number in range(repeats)],
        repeats=repeats,
        limit=limit,
        max_model_len=32768,
    )
    return EvalPlan(
        cluster="test",
        release="r/c",
        model=MODEL,
        endpoint="cluster",
        against="",
        versions={"evalscope": "1"},
        settings=settings,
        places={name: str(top / name) for name in names},
        data={name: digest(top / name) for name in names},
        margin=2.0,
    )


def asked(light: EvalEngine, plan: EvalPlan, bar: object = silent) -> tuple[EvalRun, bool]:
    """Ask a plan; the run, and whether it went on with an interrupted one."""
    endpoint = Asked(light.url.removesuffix("/v1"), MODEL, KEY, inside=True)
    means = Means(lambda: endpoint, 8, 60, None, tries=2, pause=1)
    with opened(plan) as (folder, again):
        work = Work(plan, folder, means, silent, bar)  # type: ignore[arg-type]
        scores = work.all()
        return folder.keep(plan, {name: work.of_set(name) for name in work.asked}, scores), again


def counts(run: EvalRun, name: SetName) -> tuple[int, int, int]:
    rows = run.of(name)
    return len(rows), sum(row.right for row in rows), sum(row.cut for row in rows)


def expected(score: evalanswers.Score) -> tuple[int, int, int]:
    return score.asked, score.right, score.cut


def test_scores_cuts_decoys_and_errors_in_between(eval_home: Path, light: EvalEngine) -> None:
    """One set: each answer thinks, and weighs another answer before </think>; two questions get a 500 first."""
    rows, scores = answer_rows({"gsm8k": [1]}, {"gsm8k": [2]})
    for row in rows[3:5]:
        row |= {"status": 500, "times": 1}
    light.tell(rows)
    bars: list[tuple[str, int, int]] = []
    run, again = asked(light, plan_of(["gsm8k"]), lambda *row: bars.append(row))
    assert not again and counts(run, "gsm8k") == expected(scores["gsm8k"]) and run.unanswered("gsm8k") == 0
    assert bars[-1][1:] == (scores["gsm8k"].asked,) * 2
    first = light.record()[0]
    assert (first["temperature"], first["top_p"], first["seed"], first["max_tokens"]) == (0.6, 0.95, 7, None)
    wrong = {row.question for row in run.of("gsm8k") if not row.right}
    assert wrong == {"main/1", "main/2"} and all(row.tokens for row in run.of("gsm8k"))
    assert set(light.counts().values()) == {1, 2}, "an error is asked again, an answer is not"
    kept = list((eval_home / "runs" / "test").iterdir())
    assert len(kept) == 1 and not any(KEY in path.read_text(errors="replace") for path in kept[0].rglob("*.*"))


@pytest.mark.long
def test_six_sets_two_repeats_with_two_seeds(eval_home: Path, light: EvalEngine) -> None:
    rows, scores = answer_rows({"mmlu": [0, 2], "ceval": [1]}, {"aime24": [0]}, seed=7)
    others, seconds = answer_rows({"gpqa_diamond": [0]}, {}, seed=8)
    light.tell([*rows, *others])
    run, _ = asked(light, plan_of(list(scores), repeats=2))  # type: ignore[arg-type]
    assert run.sets() == list(scores)
    for name in run.sets():
        one, other = ([row for row in run.of(name) if row.repeat == repeat] for repeat in (0, 1))
        assert (len(one), sum(row.right for row in one)) == (scores[name].asked, scores[name].right)
        assert (len(other), sum(row.right for row in other)) == (seconds[name].asked, seconds[name].right)
    assert {row["seed"] for row in light.record()} == {7, 8} and set(light.counts().values()) == {2}


@pytest.mark.long
def test_a_limit_is_of_each_subject(eval_home: Path, light: EvalEngine) -> None:
    light.tell(answer_rows({}, {})[0])
    run, _ = asked(light, plan_of(["ceval", "gsm8k"], limit=1))
    assert {row.question for row in run.scores} == {f"{subject}/0" for subject in (*evalanswers.CEVAL, "main")}


INTERRUPTED = """
import sys
from pathlib import Path
from tests.unit.test_eval_run import asked, plan_of
from tests.evalengine import EvalEngine
from r1deploy.signals import Interrupts, Stopped
light = EvalEngine(Path(sys.argv[1]), "")
light.port = int(sys.argv[2])
try:
    with Interrupts():
        asked(light, plan_of(["math_500"]))
except Stopped as stop:
    sys.exit(130 if stop.error().fix.startswith("run the same command again") else 1)
"""


def children(marker: str) -> list[str]:
    """Command lines of processes that know a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [row for row in found if "evalasking" in row]


def written(home: Path) -> int:
    """Answers that are on the disk: one that the engine gave a moment before is still under way."""
    return sum(len(path.read_bytes().splitlines()) for path in home.glob("runs/**/predictions/**/*.jsonl"))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda row: row.name)
def test_an_interrupted_run_goes_on_without_repeating(
    eval_home: Path, light: EvalEngine, tmp_path: Path, number: signal.Signals
) -> None:
    rows, scores = answer_rows({"math_500": [1]}, {})
    slow = [row | {"delay": 30} for row in rows if row["match"] in texts("math_500")[4:]]
    light.tell([*slow, *rows])
    argv = [sys.executable, "-c", INTERRUPTED, str(light.answers), str(light.port)]
    child = subprocess.Popen(argv, cwd=Path(__file__).parents[2])
    wait(lambda: written(eval_home) == 4)
    before = light.counts("answered")
    assert len(children(str(tmp_path))) == 1
    child.send_signal(number)
    assert child.wait(20) == (130 if number != signal.SIGKILL else -9)
    wait(lambda: not children(str(tmp_path)))
    light.tell(rows)
    run, again = asked(light, plan_of(["math_500"]))
    assert again and counts(run, "math_500") == expected(scores["math_500"])
    after = light.counts()
    assert all(after[match] == 1 for match in before), "an answered question was asked again"
    assert set(light.counts("answered")) == set(texts("math_500"))


@pytest.mark.long
def test_a_restart_in_the_middle_and_an_engine_that_stays_away(eval_home: Path, light: EvalEngine) -> None:
    rows, scores = answer_rows({"gsm8k": [0]}, {})
    light.tell([row | {"delay": 1} for row in rows])

    def restart() -> None:
        wait(lambda: len(light.counts("answered")) >= 1)
        light.end(signal.SIGKILL)
        time.sleep(4)
        light.start()

    thread = threading.Thread(target=restart)
    thread.start()
    run, _ = asked(light, plan_of(["gsm8k"]))
    thread.join()
    assert counts(run, "gsm8k") == expected(scores["gsm8k"])


@pytest.mark.long
def test_a_question_that_always_fails_leaves_its_set_without_a_verdict(eval_home: Path, light: EvalEngine) -> None:
    rows, scores = answer_rows({}, {})
    rows[0] |= {"status": 500, "times": 1000}
    light.tell(rows)
    run, _ = asked(light, plan_of(["gsm8k"]))
    assert run.unanswered("gsm8k") == 1 and len(run.of("gsm8k")) == scores["gsm8k"].asked - 1
    assert light.counts()[str(rows[0]["match"])] == 3 * 2, "three passes, each of two tries"


@pytest.mark.long
def test_fetched_folders_are_asked_as_their_sources_are(eval_home: Path, light: EvalEngine, tmp_path: Path) -> None:
    """The hub's place is taken by folders: nothing here reaches a hub."""
    settings = load(tmp_path, {"eval.data": str(tmp_path / "sets")}, {}).settings
    names: list[SetName] = ["gsm8k", "mmlu", "math_500", "gpqa_diamond", "aime24"]
    fetch(settings, names, tmp_path / "sets", silent, {name: str(DATA / name) for name in names})
    light.tell(answer_rows({"mmlu": [1]}, {})[0])
    run, _ = asked(light, plan_of(names, top=tmp_path / "sets"))
    assert len(run.scores) == sum(len(texts(name)) for name in names)
    assert [row.set for row in run.scores if not row.right] == ["mmlu"]


def test_the_environment_is_there_at_once_and_apart(eval_home: Path, evalscope: Path, tmp_path: Path) -> None:
    assert evalinstall.installed() and not evalinstall.install({}, silent), "a second installation does nothing"
    argv = [str(evalscope / "bin" / "python"), "-I", "-m", "pip", "list", "--format=freeze"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    names = {row.split("==")[0] for row in listed.splitlines()}
    assert "evalscope==1.14.1" in listed and not names & {"litellm", "torch", "r1deploy"}


def texts(name: str) -> list[str]:
    return [question.text for question in evalanswers.questions(name)]


def wait(there: object, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not there():  # type: ignore[operator]
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.1)
