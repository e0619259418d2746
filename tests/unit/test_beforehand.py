"""What is done before the engine that serves is stopped: asked of containers and hosts, and what is said of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.checkpoint import filling
from r1deploy.errors import LockedError, PreflightError, UnreachableError
from r1deploy.planning.recorded import Record
from r1deploy.planning.whatserves import Serving, serving
from r1deploy.serving import beforehand
from r1deploy.serving.stopwatch import Stopwatch
from r1deploy.serving.switching import Gap, gives_way
from r1deploy.session import MARK
from r1deploy.ui import lines
from r1deploy.verbs import serve
from tests.unit.test_render import settings_of
from tests.unit.test_serving import HOSTS, host
from tests.unit.test_switching import OLD, changed, serving_now, view

RAY = {"versions": "Ray 2.40.0 (Python 3.10.12)", "why": None}
NEW = changed(release="cccccccccccc", config="dddddddddddd")
BESIDE = {"containers": [{**host("node1").containers[0].model_dump(), "name": "new", "release": "cccccccccccc"}]}
GIB = 1 << 30


class Told:
    """A connection whose container, and whose script, say what they are told to."""

    def __init__(self, name: str, said: Any) -> None:
        self.name, self.said = name, said

    def python_in(self, container: str, _: str, __: object, order: dict[str, Any], seconds: int) -> Any:
        assert container == "new" and order == {"op": "load", "modules": ["ray", "vllm"]} and seconds > 60
        return self._say()

    def script(self, module: str, order: dict[str, Any], take: Callable[[bytes], None]) -> None:
        assert module == "readahead" and set(order) == {"folder", "seconds"}
        for row in self._say():
            take(f"noise {MARK}{json.dumps(row)}\n".encode())

    def _say(self) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    def close(self) -> None:
        """Nothing is open."""


def run_of(said: dict[str, Any], *, lost: bool = False) -> Any:
    """A run that hears: ``said`` by host is what that host says."""
    settings = settings_of(container={"volumes": ["/mnt/share:/data1"]}, engine={"model": "/data1/DeepSeek-R1-INT8"})
    told: list[str] = []
    bars: list[tuple[str, int, int]] = []
    return SimpleNamespace(
        settings=settings,
        say=told.append,
        bar=lambda *row: bars.append(row),
        at=lambda _: None,
        lost=lost,
        remote=lambda _, name: Told(name, said.get(name)),
        told=told,
        bars=bars,
    )


def beside(**changes: Any) -> Any:
    """Two hosts that serve, with the new release's container on each."""
    whole = view(serving_now())
    rows = {name: host(name, **{**BESIDE, **changes}) for name in HOSTS}
    whole.probed.observed.update(rows)
    desired = SimpleNamespace(head=SimpleNamespace(name="node1"), hosts=[SimpleNamespace(name=name) for name in HOSTS])
    return SimpleNamespace(plan=whole.plan, probed=whole.probed, desired=desired)


@pytest.mark.parametrize(
    ("found", "wanted", "does"),
    [
        (serving_now(), NEW, True),
        (serving_now(), OLD, False),  # up, but without a token: else it would have been left alone
        (serving("deepseek-r1", HOSTS, {"node1": host("node1", processes__engines=[])}), NEW, False),
    ],
    ids=["another release", "the same again", "nothing serves"],
)
def test_it_is_done_where_somebody_waits_for_what_comes(
    found: Serving, wanted: Record, does: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing gives an answer, the start is begun at once."""
    done: list[str] = []
    seen = view(found)
    run: Any = SimpleNamespace(refuse_held=lambda _: None, hold=lambda *_: contextlib.nullcontext())
    for name, value in {
        "survey": lambda _: seen,
        "refuse_unprepared": lambda _: None,
        "serves_already": lambda *_: None,
        "record_of": lambda _: wanted,
        "prepare": lambda *_: done.append("prepare"),
        "start": lambda *_: done.append("start"),
    }.items():
        monkeypatch.setattr(serve, name, value)
    serve.serve(run, lambda _: None)
    assert done == (["prepare", "start"] if does else ["start"])
    assert Stopwatch(gives_way(seen, wanted)).spared is does


def test_a_configuration_of_what_serves_needs_no_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its container is the one that serves."""
    done: list[str] = []
    for name in ("load", "fill"):
        monkeypatch.setattr(beforehand, name, lambda *_, name=name: done.append(name))
    model = run_of({}).settings.engine.served_model_name
    beforehand.prepare(run_of({}), beside(), changed(config="dddddddddddd", model=model))
    assert done == ["fill"]
    beforehand.prepare(run_of({}), beside(), NEW.model_copy(update={"model": "another model"}))
    assert done == ["fill", "load"], "where the weights of another model lie, the settings do not say"


def test_the_new_containers_import_what_they_need() -> None:
    run = run_of(dict.fromkeys(HOSTS, RAY))
    beforehand.load(run, beside(), NEW)
    assert run.told == ["the new containers import ray and vllm"]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"versions": "Ray 2.0.0 (Python 3.10.12)", "why": None}, "Ray 2.0.0 (Python 3.10.12) there and Ray 2.40.0"),
        ({"versions": None, "why": "vllm: ImportError: no _C"}, "node2: new: vllm: ImportError: no _C; nothing was"),
    ],
    ids=["another Ray", "no engine"],
)
def test_what_cannot_start_is_found_before_anything_is_stopped(second: dict[str, Any], said: str) -> None:
    run = run_of({"node1": RAY, "node2": second})
    with pytest.raises(PreflightError) as caught:
        beforehand.load(run, beside(), NEW)
    assert caught.value.code == "RELEASE_UNREADY" and said in caught.value.message and caught.value.host == "node2"
    assert "docker rm -f new" in str(caught.value.fix) and run.told == []


@pytest.mark.parametrize(
    "said", [None, [], {"versions": 3}, "text", UnreachableError("SSH_TIMEOUT", "no answer in time")], ids=repr
)
def test_a_container_that_does_not_say_does_not_hold_the_switch_up(said: Any) -> None:
    run = run_of({"node1": RAY, "node2": said})
    beforehand.load(run, beside(), NEW)
    assert len(run.told) == 1 and run.told[0].startswith("node2: new did not say")


def test_a_stopped_container_is_not_asked() -> None:
    """A former release's: it has served."""
    stopped = [{**BESIDE["containers"][0], "running": False}]
    run = run_of({})
    beforehand.load(run, beside(containers=stopped), NEW)
    assert run.told == []


def progress(done: int, total: int) -> dict[str, Any]:
    return {"kind": "progress", "done": done, "total": total}


def ended(read: int, total: int, why: str = "", before: int = 0) -> dict[str, Any]:
    return {"kind": "done", "total": total, "before": before, "read": read, "why": why}


def test_all_hosts_read_and_one_sentence_says_so() -> None:
    rows = [progress(0, 4 * GIB), progress(2 * GIB, 4 * GIB), ended(3 * GIB, 4 * GIB, before=GIB)]
    run = run_of(dict.fromkeys(HOSTS, rows))
    filling.fill(run, beside())
    assert run.told == ["the weights are in the page cache of 2 hosts; 6.0 GiB were read"]
    assert run.bars[-1] == ("reading the weights ahead", 50, 100)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [ended(GIB, 4 * GIB, "memory", GIB)],
            "2.0 GiB of 4.0 GiB of the weights are in its page cache: no more memory",
        ),
        ([ended(0, 4 * GIB, "memory")], "0 bytes of 4.0 GiB of the weights are in its page cache: no more memory"),
        ([ended(GIB, 4 * GIB, "time")], "its page cache: service.ready_timeout is over"),
        ([ended(GIB, 4 * GIB, "\x1b[2J")], "its page cache: it ended early"),
        ([{"kind": "error", "message": "Input/output error"}], "the weights are not read ahead: Input/output error"),
        ([progress(1, 2)], "the weights are not read ahead: it gave no answer"),
        ([{"kind": "done", "total": -1}, {"kind": "done", "total": "x"}, 3], "it gave no answer"),
    ],
)
def test_a_host_that_could_not_read_all_is_named_and_nothing_is_held_up(rows: list[Any], said: str) -> None:
    run = run_of({"node1": [ended(4 * GIB, 4 * GIB)], "node2": rows})
    filling.fill(run, beside())
    assert run.told[0] == "the weights are in the page cache of 1 host; 4.0 GiB were read"
    assert run.told[1].startswith("node2: ") and said in run.told[1]


def test_a_host_that_is_gone_or_a_lost_lock_ends_it_before_the_stop() -> None:
    with pytest.raises(UnreachableError):
        filling.fill(run_of({"node1": [], "node2": UnreachableError("SSH_TIMEOUT", "gone")}), beside())
    with pytest.raises(LockedError):
        filling.fill(run_of({name: [progress(1, 2)] for name in HOSTS}, lost=True), beside())


def test_who_is_asked_reads_what_comes_before_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = lines.gap_lines(Gap("a/b", "c/d", 420.0, ("port: 9010 → 9011",)))
    assert "before that, while it serves" in " ".join(rows) and max(map(len, rows)) <= 80
