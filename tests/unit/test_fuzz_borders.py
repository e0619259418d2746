"""Each border over which a host's word comes in: understood whole, or refused by its named error (field.md 1.7).

``make test-fuzz`` gives each of them 100 000 inputs; the default takes some seconds.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from r1deploy import runlock
from r1deploy.ansible.events import event_of
from r1deploy.ansible.failures import failure_of
from r1deploy.checkpoint.transferlines import ENDS, KINDS, row_of
from r1deploy.errors import R1Error
from r1deploy.fanout.relayrows import KINDS as RELAY_KINDS
from r1deploy.fanout.relayrows import relay_row_of
from r1deploy.onhost import containers, enginesocket, holder, statefolder, trees
from r1deploy.onhost.gather import gather
from r1deploy.planning.observed import Incomplete, Observed, observed_of
from r1deploy.planning.planner import plan
from r1deploy.planning.recorded import Record
from r1deploy.session import MARK, answer_in
from r1deploy.ui.planlines import plan_lines
from tests.fuzzing import quick
from tests.plans import test_plans as plans

ODD = [
    None,
    True,
    False,
    0,
    -1,
    2**70,
    1e308,
    "",
    "x",
    "\ud800",
    "{{ 1 }}",
    "../x",
    "\x1b[2J",
    [],
    [None],
    {},
    {"": {}},
]
values = st.recursive(
    st.sampled_from(ODD) | st.text(max_size=9) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def altered(found: Any, chance: random.Random, value: Any) -> Any:
    """A document with one place of it replaced, taken out, or given more: near to what is right."""
    found = copy.deepcopy(found)
    place, holder, key = found, None, None
    while isinstance(place, dict | list) and place and (holder is None or chance.random() < 0.8):
        holder, key = place, chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        place = holder[key]
    if holder is None or chance.random() < 0.05:
        return value
    if chance.random() < 0.2:
        del holder[key]
    else:
        holder[key] = value
    return found


def near(right: Callable[[], Any]) -> st.SearchStrategy[Any]:
    """What is right, with one to three places altered; and anything else."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        found, chance = right(), draw(st.randoms(use_true_random=False))
        for _ in range(draw(st.integers(1, 3))):
            found = altered(found, chance, draw(values))
        return found

    return drawn() | values


def answers() -> dict[str, Any]:
    """The converged cluster's answers, as the probe gives them."""
    seen: dict[str, Any] = {}

    def keep(found: Any) -> Observed:
        seen[str(len(seen))] = copy.deepcopy(found)
        return observed_of(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "observed_of", keep)
        plans.run({})
    return seen


ANSWERS = answers()
_, DESIRED = plans.run({})


@quick(150)
@given(near(lambda: ANSWERS["0"]))
def test_probe_answer(answer: Any) -> None:
    """Whatever is taken can be planned with, and shown."""
    try:
        seen = observed_of(answer)
    except Incomplete:
        return
    names = [host.name for host in DESIRED.hosts]
    found = plan(DESIRED, {names[0]: seen, names[1]: observed_of(ANSWERS["1"])})
    assert plan_lines(found, True)
    seen.model_dump_json()


EVENT = {
    "event": "runner_on_failed",
    "event_data": {
        "play": "image: Load it",
        "task": "Load it",
        "host": "node1",
        "res": {
            "msg": "One or more items failed",
            "tail": ["a", "b"],
            "results": [{"failed": True, "stdout": '{"error": "bad", "tail": ["x"]}'}, {"msg": "well"}],
        },
    },
}


@quick(300)
@given(near(lambda: EVENT) | near(lambda: EVENT["event_data"]).map(lambda data: {**EVENT, "event_data": data}))
def test_ansible_event(raw: Any) -> None:
    event = event_of(raw if isinstance(raw, dict) else {"event": raw})
    if event is not None:
        failure = failure_of(event)
        assert isinstance(failure.message, str) and all(isinstance(row, str) for row in failure.evidence)


LOOK = {
    "kind": "done",
    "weights": {"path": "/m", "exists": True, "shards": 1, "missing": [], "bad": [], "bytes": 9, "config": True},
    "free": 9,
    "sizes": {"a": 1},
    "client": None,
}
VERIFY = {
    **{key: LOOK[key] for key in ("kind", "weights")},
    **{"sums": {"a": "b"}, "differ": [], "absent": [], "unlisted": [], "hashed": 9, "seconds": 0.1, "source": None},
}
PULL = {"kind": "done", "revision": "main", "files": 1, "bytes": 9, "downloaded": 9}
ROWS = [
    ("look", LOOK),
    ("verify", VERIFY),
    ("pull", PULL),
    ("mark", {"kind": "done", "marked": "/m/.r1deploy-x"}),
    ("seen", {"kind": "done", "seen": True}),
    ("unmark", {"kind": "done"}),
    ("verify", {"kind": "progress", "done": 1, "total": 2}),
    ("pull", {"kind": "note", "text": "going on"}),
    ("look", {"kind": "error", "code": "DISK_FULL", "message": "full", "tail": []}),
]


@pytest.mark.parametrize(("op", "row"), ROWS)
def test_right_rows_of_the_weights_script_are_taken(op: str, row: dict[str, Any]) -> None:
    taken = row_of(op, row)
    assert taken is not None
    assert {key: value for key, value in taken.items() if key in row and key != "weights"} == {
        key: value for key, value in row.items() if key != "weights"
    }
    assert {**taken.get("weights", {}), **row.get("weights", {})} == taken.get("weights", {})


@quick(200)
@given(st.sampled_from(ROWS).flatmap(lambda row: st.tuples(st.just(row[0]), near(lambda: row[1]))))
def test_weights_script(said: tuple[str, Any]) -> None:
    op, found = said
    row = row_of(op, found)
    if row is None:
        return
    shape = ENDS.get(op, KINDS["done"]) if row["kind"] == "done" else KINDS[row["kind"]]
    assert set(row) == {"kind", *shape.model_fields}


RELAYED: list[dict[str, Any]] = [
    {"kind": "ready", "port": 40000},
    {"kind": "lost", "turn": 1, "place": 2, "why": "gone"},
    {"kind": "done", "bytes": 2, "seconds": 1.5, "sha256": "0" * 64},
    {"kind": "error", "code": "DISK_FULL", "message": "full", "tail": ["x"]},
]


@quick(200)
@given(st.sampled_from(RELAYED).flatmap(lambda row: near(lambda: row)))
def test_relay(found: Any) -> None:
    row = relay_row_of(found)
    assert row is None or type(row) in RELAY_KINDS.values()


INFO = {"id": "a", "who": "root@x", "from": "1.2.3.4", "verb": "serve", "doing": None, "since": 1.0, "beat": 2.0}


@quick(200)
@given(near(lambda: INFO))
def test_lock_script(found: Any) -> None:
    """What the lock says becomes a sentence, whatever it is."""
    assert isinstance(runlock.sentence(runlock.info_of(found)), str)
    text = f"noise {MARK}{json.dumps({'held': found})} more"
    assert isinstance(answer_in(text), dict)


@quick(200)
@given(st.text() | near(lambda: {"held": INFO}).map(json.dumps))
def test_lines_around_an_answer(text: str) -> None:
    answer_in(text)
    answer_in(f"Welcome\n{MARK}{text}")


def record_text() -> Any:
    return {
        "release": "a" * 12,
        "config": "b" * 12,
        "container": "x",
        "hosts": [{"name": "node1", "address": "10.0.0.1", "files": {"env.sh": "c"}}],
        "port": 9010,
        "model": "r1",
    }


@quick(200)
@given(near(record_text).map(json.dumps) | st.text())
def test_release_record(text: str) -> None:
    try:
        Record.model_validate_json(text)
    except ValidationError:
        return


MANIFEST = {"digest": "a" * 64, "files": {"setup.py": ["b" * 64, "0644", 3]}}


@quick(200)
@given(near(lambda: MANIFEST).map(json.dumps) | st.text(), near(dict).map(json.dumps) | st.text())
def test_manifest_and_stamps(tmp_path_factory: pytest.TempPathFactory, text: str, stamps: str) -> None:
    root = tmp_path_factory.mktemp("tree", numbered=True)
    (root / "setup.py").write_text("x")
    (root / "manifest.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    (root / trees.STAMPS).write_text(stamps, encoding="utf-8", errors="surrogatepass")
    found = trees.state(str(root))
    assert found is None or set(found) == {"digest", "bad", "bad_count", "files"}


INSTALLED = {"parts": {"vllm": {"tree": "a", "version": "1", "proof": {"/x": "b"}}}}


@quick(200)
@given(near(lambda: INSTALLED).map(json.dumps) | st.text())
def test_installed_record(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("root", numbered=True)
    (root / "opt" / "r1deploy").mkdir(parents=True)
    (root / "opt" / "r1deploy" / "installed.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    found = containers.installed_in(str(root))
    assert found is None or all(set(row) == {"tree", "version", "intact"} for row in found["parts"].values())


@quick(200)
@given(near(lambda: {"release": "r", "config": "c", "proven": True}).map(json.dumps) | st.text())
def test_active_record_and_lock_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("state", numbered=True) / "active.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        assert isinstance(statefolder.active_of(str(path)), dict)
    except ValueError as error:
        assert "damaged" in str(error)
    assert holder.is_held(str(path)) in (True, False)
    statefolder.last_lines(str(path), 5)


CONTAINER = {
    "Id": "c0ffee",
    "Name": "/x",
    "Image": "sha256:1",
    "State": {"Running": True, "Pid": 0, "StartedAt": "2026"},
    "Config": {"Labels": {"r1deploy.cluster": "lab", "r1deploy.release": "r"}, "Tty": True},
    "HostConfig": {"ShmSize": 1, "Binds": ["a:b"], "Devices": []},
    "GraphDriver": {"Data": {"UpperDir": "/nowhere"}},
}


@quick(200)
@given(near(lambda: CONTAINER))
def test_docker_inspect(found: Any) -> None:
    """A part that cannot be read fails by itself: the frame catches it and says which; what is read is JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enginesocket, "get", lambda path: (200, [found] if "filters" in path else found))
        request = SimpleNamespace(**{"cluster": "lab", "container": "x"})
        jobs = [(("containers",), lambda: iter([("containers", containers.look_containers(vars(request)))]))]
        rows, problems = gather(jobs, 10, 1 << 20)
    assert set(rows) | set(problems) == {"containers"}
    try:
        observed_of({**ANSWERS["0"], **rows, "problems": problems})
    except Incomplete:
        return
    except R1Error as error:
        pytest.fail(str(error))
