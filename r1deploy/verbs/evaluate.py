"""The six benchmarks against what serves, and against another endpoint: ``eval``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from r1deploy.assurance import evalinstall
from r1deploy.assurance.evalagainst import parted, prompts, write_flips
from r1deploy.assurance.evalcolumns import Column, column_of, published
from r1deploy.assurance.evalcompare import Comparison, compare
from r1deploy.assurance.evaldata import digest, fetch, folders, names_of
from r1deploy.assurance.evalhome import environment_folder
from r1deploy.assurance.evaljudge import Judgement, judge, of_the_page
from r1deploy.assurance.evalkept import RUN, EvalPlan, found, opened
from r1deploy.assurance.evallength import THINKING
from r1deploy.assurance.evalrows import EvalRun, EvalSettings, FirstDifference, Score, SetName
from r1deploy.assurance.evalwork import Means, Work
from r1deploy.errors import ConfigError, GateError
from r1deploy.inputs.bundlefile import EVAL_PYTHON
from r1deploy.observe.context import bundle_of, settings_in
from r1deploy.planning.shardfindings import Memory
from r1deploy.run import Run
from r1deploy.serving.evalsides import Side, cluster_side, url_side
from r1deploy.settings.model import Settings
from r1deploy.settings.site import with_ca
from r1deploy.voice import Say

# What a prompt with its examples may take of the model's length, beside R1's longest answer.
PROMPT = 8192


@dataclass(frozen=True)
class Wanted:
    """What is asked: sets by name (None: all), the first so many questions of each subject, how often each."""

    sets: str | None = None
    limit: int | None = None
    repeats: int = 1


@dataclass(frozen=True)
class Evaluated:
    """A run that was kept beside the page's columns, and what is judged: it against H100, and the page itself."""

    run: EvalRun
    path: Path
    column: Column
    beside: tuple[Column, ...]
    judged: tuple[Judgement, ...]


@dataclass(frozen=True)
class Compared:
    """Two kept runs. ``flips``: the file of the questions that flipped, None where their answers are not here."""

    comparison: Comparison
    flips: Path | None


def install(folder: Path, flags: Mapping[str, object], say: Say) -> tuple[bool, Path]:
    """Make evalscope's environment: (whether it is new, its folder). Raises PreflightError EVAL_INSTALL."""
    settings = settings_in(folder.resolve(), flags).settings
    bundle = bundle_of(folder.resolve())
    files = str(bundle.path(EVAL_PYTHON)) if bundle and bundle.holds(EVAL_PYTHON) else None
    inside = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": files} if files else {}
    return evalinstall.install({**with_ca(settings.site), **inside}, say), environment_folder()


def fetch_sets(folder: Path, flags: Mapping[str, object], only: str | None, target: Path, say: Say) -> list[SetName]:
    """Write sets as folders for ``eval.data``. Raises UsageError EVAL_SET, PreflightError EVAL_FETCH, EVAL_MISSING."""
    names = names_of(only)
    fetch(settings_in(folder.resolve(), flags).settings, names, target, say)
    return names


def evaluate(run: Run, wanted: Wanted) -> Evaluated:
    """Ask what serves. Raises UsageError, ConfigError, PreflightError, GateError, ApplyError, LockedError, Stopped."""
    published("H100")  # raises STATISTICS_MISSING now, not after hours
    with evalinstall.in_use(), cluster_side(run) as side:
        plan = _plan(run, wanted, side, "")
        with _at_work(run, plan, side) as work:
            scores = work.all()
            _still(side, work)
            return _judged(*_kept(work, scores), side.memory)


def against(run: Run, url: str, wanted: Wanted) -> Compared:
    """Ask the same questions here and at another endpoint. Raises what ``evaluate`` does."""
    published("H100")  # as above
    with evalinstall.in_use(), cluster_side(run) as here:
        there = url_side(run.settings, url)
        one, other = _plan(run, wanted, here, there.url), _plan(run, wanted, there, here.release)
        with _at_work(run, one, here) as first, _at_work(run, other, there) as second:
            scores = first.all(), second.all()
            _still(here, first)
            looked = list(prompts(first.folder.work(0), first.asked))
            differ = parted(here.reach(), there.reach(), looked, run.bar)
            return _compared(_kept(first, scores[0]), _kept(second, scores[1]), differ)


def kept(word: str) -> Evaluated:
    """A kept run, by id or file, judged again. Raises UsageError EVAL_UNKNOWN, PreflightError STATISTICS_MISSING."""
    return _judged(*found(word), None)


def compare_kept(one: str, other: str) -> Compared:
    """Two kept runs, by id or file. Raises UsageError EVAL_UNKNOWN, PreflightError STATISTICS_MISSING."""
    return _compared(found(one), found(other), [])


def _judged(run: EvalRun, path: Path, memory: Memory | None) -> Evaluated:
    column, page = column_of(run, "ours", str(path)), published("H100")
    beside = (page, published("INT8"), published("INT4"))
    return Evaluated(run, path, column, beside, (judge(column, page, run.margin, memory), *of_the_page(run.margin)))


def _compared(here: tuple[EvalRun, Path], there: tuple[EvalRun, Path], differ: list[FirstDifference]) -> Compared:
    columns = column_of(here[0], "here", str(here[1])), column_of(there[0], "there", str(there[1]))
    done = compare(*columns, differ)
    works = here[1].parent / "work" / "0", there[1].parent / "work" / "0"
    if not all(work.is_dir() for work in works):
        return Compared(done, None)
    path = here[1].parent / f"flips-{there[0].id}.jsonl"
    write_flips(path, done.flips, works)
    return Compared(done, path)


def _length(settings: Settings, longest: int | None) -> tuple[int | None, int]:
    """(max_tokens to ask with, None: what the engine leaves; the most that an answer may have)."""
    if settings.eval.max_tokens:
        return settings.eval.max_tokens, settings.eval.max_tokens
    if longest is None or longest >= THINKING + PROMPT:
        return THINKING, THINKING
    return None, longest


def _plan(run: Run, wanted: Wanted, side: Side, other: str) -> EvalPlan:
    """What is asked of one side, written down before. Raises UsageError, ConfigError, PreflightError, GateError."""
    settings, endpoint = run.settings, side.reach()
    models = endpoint.models() or {}
    if endpoint.model not in models:
        message = f"{endpoint.url} does not answer, or does not serve {endpoint.model}"
        raise GateError("EVAL_SILENT", message, fix="r1deploy status --probe")
    longest = models[endpoint.model] or (settings.engine.max_model_len if side.release else None)
    if longest and (settings.eval.max_tokens or 0) >= longest:
        message = f"eval.max_tokens {settings.eval.max_tokens} and a prompt do not fit into max_model_len {longest}"
        raise ConfigError("EVAL_LENGTH", message, fix="leave eval.max_tokens out, or take a smaller one")
    places = folders(settings, names_of(wanted.sets), run.say)
    return EvalPlan(
        cluster=settings.cluster,
        release=side.release,
        model=endpoint.model,
        endpoint="cluster" if side.release else "url",
        against=other,
        places={name: str(place) for name, place in places.items()},
        versions={"evalscope": evalinstall.version(), "engine": endpoint.version()},
        settings=EvalSettings(
            temperature=float(settings.eval.temperature),
            top_p=float(settings.eval.top_p),
            max_tokens=_length(settings, longest)[1],
            seeds=[settings.eval.seed + number for number in range(wanted.repeats)],
            repeats=wanted.repeats,
            limit=wanted.limit,
            max_model_len=longest,
        ),
        data={name: digest(folder) for name, folder in places.items()},
        margin=float(settings.eval.margin),
    )


@contextlib.contextmanager
def _at_work(run: Run, plan: EvalPlan, side: Side) -> Iterator[Work]:
    """A plan's folder, open, with what asks its questions."""
    settings = run.settings
    with opened(plan) as (folder, again):
        run.say(f"run {folder.id}{': it was interrupted, and goes on' if again else ''}")
        sent = _length(settings, plan.settings.max_model_len)[0]
        means = Means(side.reach, settings.eval.batch, settings.service.ready_timeout, sent)
        yield Work(plan, folder, means, run.say, run.bar)


def _still(side: Side, work: Work) -> None:
    """Raises GateError where another release serves now; its answers must not be gone on with under the first one."""
    try:
        side.check()
    except GateError as error:
        if error.code == "EVAL_CHANGED":
            work.folder.give_up()
        raise


def _kept(work: Work, scores: list[Score]) -> tuple[EvalRun, Path]:
    asked = {name: work.of_set(name) for name in work.asked}
    return work.folder.keep(work.plan, asked, scores), work.folder.path / RUN
