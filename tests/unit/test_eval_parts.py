"""The parts of ``eval`` without evalscope: its files read back, kept runs, sets, endpoints, pieces, bars."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.assurance import evalinstall, evalwork
from r1deploy.assurance.evalagainst import write_flips
from r1deploy.assurance.evalchild import Program, run
from r1deploy.assurance.evalcompare import Flip
from r1deploy.assurance.evaldata import digest, folders, names_of
from r1deploy.assurance.evalfiles import Counted, mend, scores
from r1deploy.assurance.evalhome import locked
from r1deploy.assurance.evalkept import EvalPlan, every_kept, found, opened
from r1deploy.assurance.evalrows import SETS, EvalSettings, Score
from r1deploy.errors import ApplyError, ConfigError, LockedError, PreflightError, UsageError
from r1deploy.inputs import bundlefile
from r1deploy.observe.context import open_context, remember_bundle
from r1deploy.run import silent
from r1deploy.settings.load import load
from r1deploy.ui.evalbars import EvalBars
from r1deploy.verbs import bundle, evaluate
from tests.evalanswers import DATA


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


PLAN = EvalPlan(
    cluster="test",
    release="r/c",
    model="m",
    endpoint="cluster",
    against="",
    versions={"evalscope": "1"},
    settings=EvalSettings(temperature=0.6, top_p=0.95, max_tokens=100, seeds=[1]),
    places={"gsm8k": "/data/gsm8k"},
    data={"gsm8k": "0" * 64},
    margin=2.0,
)
RIGHT = Score(set="gsm8k", question="main/0", right=True, cut=False)


# What evalscope wrote.


def prediction(index: int, reason: str = "stop", **usage: object) -> str:
    output = {"choices": [{"stop_reason": reason}], "usage": usage or None}
    return json.dumps({"index": index, "model_output": output, "messages": []}) + "\n"


def review(index: int, value: object) -> str:
    # evalscope names the score that is meant of some sets only.
    score = {"value": {"acc": value}, "main_score_name": "acc" if index % 2 else None, "status": "success"}
    return json.dumps({"index": index, "sample_score": {"score": score}}) + "\n"


def written(work: Path, predictions: str, reviews: str) -> None:
    for kind, text in (("predictions", predictions), ("reviews", reviews)):
        (work / kind / "model").mkdir(parents=True, exist_ok=True)
        (work / kind / "model" / "gsm8k_main.jsonl").write_text(text)


def test_scores_are_read_with_what_was_cut(tmp_path: Path) -> None:
    predictions = prediction(0, input_tokens=9, output_tokens=5) + prediction(1, "max_tokens")
    predictions += prediction(2, "model_length") + prediction(3) + prediction(4) + '{"index": 5, "mod'
    reviews = review(0, 1.0) + review(1, 0.0) + review(2, 1.0) + review(3, 0.0) + '{"half'
    written(tmp_path, predictions, reviews)
    rows = {row.question: row for row in scores(tmp_path, {"gsm8k": {"main": 6}}, 2)}
    assert sorted(rows) == [f"main/{index}" for index in range(4)], "without its review an answer is not judged"
    assert (rows["main/0"].right, rows["main/0"].tokens, rows["main/0"].prompt_tokens) == (True, 5, 9)
    assert rows["main/1"].cut and not rows["main/1"].right and rows["main/0"].repeat == 2
    assert rows["main/2"].cut and not rows["main/2"].right, "what does not fit is no right answer"
    assert not rows["main/3"].cut and rows["main/3"].tokens is None


@pytest.mark.parametrize(
    "line", ["[]", '{"index": -1}', '{"index": "0"}', "null", "{", '{"index": 0, "model_output": 3}']
)
def test_a_line_of_another_shape_is_no_answer(tmp_path: Path, line: str) -> None:
    written(tmp_path, f"{line}\n{prediction(1)}", f"{line}\n{review(1, 1.0)}")
    assert [row.question for row in scores(tmp_path, {"gsm8k": {"main": 2}}, 0)] == ["main/1"]


def test_answers_are_counted_as_they_are_written(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    assert counted.done("gsm8k", ["main"]) == 0
    written(tmp_path, prediction(0) + prediction(1)[:9], "")
    assert counted.done("gsm8k", ["main"]) == 1
    written(tmp_path, prediction(0) + prediction(1), "")
    assert counted.done("gsm8k", ["main"]) == 2 and counted.done("mmlu", ["main"]) == 0


@pytest.mark.parametrize(
    ("text", "left"), [("", ""), ("{}", ""), ("{}\n", "{}\n"), ('{}\n{"a', "{}\n"), ("a" * 3000000, "")]
)
def test_half_a_line_is_taken_off_before_more_is_written(tmp_path: Path, text: str, left: str) -> None:
    written(tmp_path, text, left)
    mend(tmp_path)
    assert (tmp_path / "predictions" / "model" / "gsm8k_main.jsonl").read_text() == left
    assert (tmp_path / "reviews" / "model" / "gsm8k_main.jsonl").read_text() == left


def test_flips_are_written_with_both_answers(tmp_path: Path) -> None:
    for place, answer in (
        ("here", "So 4"),
        ("there", [{"type": "reasoning", "reasoning": "Hm"}, {"type": "text", "text": "5"}]),
    ):
        messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": answer}]
        written(tmp_path / place, "", json.dumps({"index": 1, "target": ["4"], "messages": messages}) + "\n")
    path = tmp_path / "flips.jsonl"
    write_flips(path, [Flip("gsm8k", "main/1", 1.0, 0.0)], (tmp_path / "here", tmp_path / "there"))
    row = json.loads(path.read_text())
    assert row["prompt"] == "2 + 2?" and row["target"] == ["4"]
    assert (row["answer_here"], row["answer_there"]) == ("So 4", "Hm\n5")


# Runs.


def test_a_run_that_was_not_kept_goes_on_and_a_kept_one_does_not() -> None:
    with opened(PLAN) as (folder, again):
        assert not again
    with opened(PLAN) as (same, again):
        assert again and same.id == folder.id
    with opened(PLAN.model_copy(update={"margin": 3.0})) as (other, again):
        assert not again and other.id != folder.id
    with opened(PLAN) as (same, _):
        kept = same.keep(PLAN, {"gsm8k": 2}, [RIGHT])
    assert kept.unanswered("gsm8k") == 1 and kept.id == folder.id
    with opened(PLAN) as (fresh, again):
        assert not again and fresh.id != folder.id
    assert found(kept.id)[0] == kept and found(kept.id[:-1])[0] == kept and found(str(found(kept.id)[1]))[0] == kept
    assert every_kept() == [kept]


def test_the_same_questions_are_not_asked_twice_at_once() -> None:
    with opened(PLAN), pytest.raises(LockedError) as caught, opened(PLAN):
        pass
    assert caught.value.code == "EVAL_BUSY" and caught.value.exit_code == 8


@pytest.mark.parametrize("word", ["20200101T000000Z", "*", "../x", ""])
def test_a_run_that_is_not_there_names_those_that_are(word: str) -> None:
    with opened(PLAN) as (folder, _):
        folder.keep(PLAN, {}, [])
    with opened(PLAN) as (second, _):
        second.keep(PLAN, {}, [])
    with pytest.raises(UsageError) as caught:
        found(word)
    assert caught.value.code == "EVAL_UNKNOWN" and folder.id in str(caught.value.fix)


def test_a_file_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    with opened(PLAN) as (folder, _):
        folder.keep(PLAN, {"gsm8k": 1}, [RIGHT])
    path = folder.path / "run.json"
    path.write_text(path.read_text().replace('"gsm8k"', '"another"'))
    with pytest.raises(UsageError) as caught:
        found(str(path))
    assert caught.value.code == "EVAL_UNKNOWN" and every_kept() == []


# Sets and the environment.


def test_sets_by_name() -> None:
    assert names_of(None) == list(SETS) and names_of("aime24, gsm8k") == ["gsm8k", "aime24"]
    with pytest.raises(UsageError) as caught:
        names_of("gsm8k,gsm9k")
    assert "gsm9k" in caught.value.message and "math_500" in str(caught.value.fix)


def test_the_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = digest(tmp_path)
    (tmp_path / "dataset_infos.json").write_text("evalscope removes it")
    assert digest(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest(tmp_path) != first


def test_a_folder_without_a_set_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    settings = load(tmp_path, {"eval.data": "sets"}, {}).settings
    assert settings.eval.data == str(tmp_path / "sets")
    with pytest.raises(ConfigError) as caught:
        folders(settings, ["gsm8k"], silent)
    assert caught.value.code == "EVAL_DATA" and "gsm8k" in caught.value.message


def test_without_the_environment_it_says_how_to_get_it() -> None:
    with pytest.raises(PreflightError) as caught, evalinstall.in_use():
        pass
    assert (caught.value.code, caught.value.fix) == ("EVAL_MISSING", "r1deploy eval --install")


def test_pins_have_hashes_and_no_place() -> None:
    text = evalinstall.PINS.read_text() + evalinstall.BUILD.read_text()
    rows = [row for row in text.splitlines() if row and not row.startswith(("#", " "))]
    assert len(rows) > 100 and all("==" in row and row.endswith("\\") for row in rows)
    assert "://" not in text and "litellm" not in text and evalinstall.version() == "1.14.1"


def test_an_installation_that_fails_shows_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("no-such-package-of-r1deploy==1 --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setattr(evalinstall, "BUILD", pins)
    nowhere = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": str(tmp_path)}
    with pytest.raises(PreflightError) as caught:
        evalinstall.install(nowhere, silent)
    assert caught.value.code == "EVAL_INSTALL" and "no-such-package" in "\n".join(caught.value.evidence)
    assert not evalinstall.installed()


def test_a_program_ends_with_what_it_started(tmp_path: Path) -> None:
    script = "sleep 100 & echo $!; read line; echo got $line; exit 3"
    heard: list[str] = []
    code = run(Program(["sh", "-c", script], {}, tmp_path / "log"), "the order\n", heard.append, silent)
    assert code == 3 and heard[1] == "got the order"
    until = time.monotonic() + 20
    while lives(heard[0]):
        assert time.monotonic() < until, "it lives"
        time.sleep(0.05)


def lives(pid: str) -> bool:
    """Whether a process is more than an entry that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_lock_is_shared_or_not(tmp_path: Path) -> None:
    with locked(tmp_path / "l", "it", shared=True):
        with locked(tmp_path / "l", "it", shared=True):
            pass
        with pytest.raises(LockedError), locked(tmp_path / "l", "it"):
            pass


# Bars.


def test_a_bar_has_the_time_left() -> None:
    bars = EvalBars()
    bars.bar("GSM8K", 10, 100)
    assert (
        bars.line("GSM8K", 40, 100, bars._begins["GSM8K"][0] + 60) == "GSM8K [########............] 40/100, 2 min left"
    )
    assert bars.line("GSM8K", 100, 100, bars._begins["GSM8K"][0] + 60).endswith("100/100")


def test_a_disk_that_gets_full_ends_the_run_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """evalscope does not end by itself there."""
    marker = tmp_path / "ended"
    code = f"import signal, sys, time; signal.signal(15, lambda *_: (open({str(marker)!r}, 'w'), sys.exit())); "
    ready = f"open({str(tmp_path / 'ready')!r}, 'w'); time.sleep(600)"
    program = Program([sys.executable, "-c", code + ready], {}, tmp_path / "log")
    free = lambda _: SimpleNamespace(free=0 if (tmp_path / "ready").exists() else 1 << 40)  # noqa: E731
    monkeypatch.setattr(evalwork, "evalinstall", SimpleNamespace(program=lambda *_: program, OFFLINE={}))
    monkeypatch.setattr("shutil.disk_usage", free)
    there: Any = SimpleNamespace(answers=True, url="u", model="m", key=None, inside=True)
    with opened(PLAN) as (folder, _), pytest.raises(ApplyError) as caught:
        evalwork.Work(PLAN, folder, evalwork.Means(lambda: there, 1, 1, None), silent, silent).all()
    assert caught.value.code == "DISK_FULL" and str(folder.path) in caught.value.message and marker.exists()
    with opened(PLAN) as (_, again):
        assert again


# What a bundle carries of it.


def test_a_bundle_brings_the_sets_and_evalscope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    monkeypatch.setattr(evalinstall, "in_use", contextlib.nullcontext)
    monkeypatch.setattr(evalinstall, "download", lambda *_: [wheel])
    settings = load(tmp_path, {"eval.data": str(DATA)}, {}).settings
    files = bundle.evaluation(settings, tmp_path, silent)
    assert files["eval/python/a-1-py3-none-any.whl"] == wheel
    assert files["eval/sets/gsm8k/README.md"] == DATA / "gsm8k" / "README.md"
    for name in (bundlefile.LOCK, bundlefile.IMAGE):
        files[name] = wheel
    bundlefile.write(tmp_path / "b", "image", (), files, "1")
    unpacked = bundlefile.unpack(tmp_path / "b", tmp_path / "cache")
    assert unpacked.holds(bundlefile.EVAL_SETS) and not unpacked.holds("eval/se")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "inventory.ini").write_text("[cluster]\nnode1\n")
    remember_bundle(tmp_path / "site", unpacked)
    brought = open_context(tmp_path / "site", None, {}).settings.eval.data
    assert brought and digest(Path(brought) / "gsm8k") == digest(DATA / "gsm8k")
    own = open_context(tmp_path / "site", None, {"eval.data": "mine"}).settings.eval.data
    assert own == str(tmp_path / "site" / "mine"), "the settings name others"
    given: list[dict[str, str]] = []
    monkeypatch.setattr(evalinstall, "install", lambda environment, _: not given.append(environment))
    evaluate.install(tmp_path / "site", {}, silent)
    assert given[0]["PIP_NO_INDEX"] == "1" and list(Path(given[0]["PIP_FIND_LINKS"]).iterdir())
