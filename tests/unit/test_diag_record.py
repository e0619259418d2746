"""What ``status`` and ``service.require_diag`` make of the results of ``diag`` on the hosts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from r1deploy.errors import PreflightError
from r1deploy.planning.diagcheck import DIAG_MISSING
from r1deploy.planning.diagrecord import PARTS, DiagRecord, Kept, lacking, seconds_of, standings, status_rows
from r1deploy.planning.findings import Check
from r1deploy.planning.observed import observed_of
from r1deploy.verbs import serve
from r1deploy.verbs.restart import ASKED, refuse_incurable
from r1deploy.verbs.rollback import HOST_BLOCKERS
from tests.plans.test_plans import CASES, run
from tests.unit.test_fuzz_borders import ANSWERS
from tests.unit.test_restart import RUN, found

HERE, OTHER = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
DAY = 86_400
NOW = seconds_of("2026-03-05T12:00:00Z")
HOSTS = ("node1", "node2")
RIGHT = {"release": HERE, "time": "2026-03-02T11:00:00Z", "ok": True, "chips": 16, "findings": 0, "run": "0a1b"}
ALL = dict.fromkeys(PARTS, RIGHT)


def said(*, silent: bool = False, **changes: dict[str, Any] | None) -> list[str]:
    """The lines of two hosts where all is right; ``node2_chips={...}`` changes an entry, None takes it away."""
    kept: dict[str, DiagRecord | None] = {}
    for host in HOSTS[: 1 if silent else 2]:
        parts: dict[str, Any] = copy.deepcopy(ALL)
        for name, change in changes.items():
            at, part = name.split("_")
            if at in (host, "all"):
                parts[part] = {**parts[part], **change} if change is not None else None
        kept[host] = DiagRecord.model_validate(parts)
    return status_rows(standings(HERE, HOSTS, kept), NOW)


RIGHT_LINE = "verified on 2 hosts, 32 chips, 3 days ago"


def test_all_right() -> None:
    assert said() == [f"{part}: {RIGHT_LINE}" for part in PARTS]


def test_the_oldest_of_what_is_verified_counts() -> None:
    assert said(node1_chips={"time": "2026-03-05T11:50:00Z"})[0] == f"chips: {RIGHT_LINE}"
    assert said(all_chips={"time": "2026-03-05T11:50:00Z"})[0] == "chips: verified on 2 hosts, 32 chips, 10 min ago"
    assert said(all_chips={"time": "2026-03-05T12:00:40Z"})[0].endswith("0 s ago"), "another machine's clock"


def test_what_is_wrong_comes_before_all_else() -> None:
    wrong = {"ok": False, "findings": 2, "time": "2026-03-05T09:55:00Z"}
    assert said(node2_network=wrong)[2] == "network: found something wrong 2 h 05 min ago: r1deploy diag network"
    assert said(node1_network=None, node2_network=wrong)[2].startswith("network: found something wrong")


def test_a_host_without_a_result_is_named() -> None:
    assert said(node2_kernels=None)[1] == "kernels: verified on 1 host, 16 chips, 3 days ago; not on node2"
    assert said(node2_kernels={"release": OTHER})[1].endswith("; not on node2")


def test_another_release_is_not_this_one() -> None:
    assert said(all_chips={"release": OTHER})[0] == f"chips: verified for release {OTHER}, not for this one"
    row = said(all_chips={"release": OTHER, "ok": False})[0]
    assert row == f"chips: found something wrong for release {OTHER}, not for this one"


def test_two_runs_with_a_host_each_measured_no_wire_between_them() -> None:
    rows = said(node2_network={"run": "ffff", "time": "2026-03-05T11:00:00Z"})
    assert rows[2] == "network: verified on 1 host, 16 chips, 60 min ago; not on node1"
    assert said(node2_chips={"run": "ffff"})[0] == f"chips: {RIGHT_LINE}"


def test_one_line_where_it_never_ran() -> None:
    nothing = {f"all_{part}": None for part in PARTS}
    assert said(**nothing) == ["never (r1deploy diag)"]
    assert status_rows(standings(HERE, HOSTS, {"node1": None, "node2": None}), NOW) == ["never (r1deploy diag)"]
    assert said(all_chips=None)[0] == "chips: never"


def test_of_a_silent_host_nothing_is_known() -> None:
    assert said(silent=True)[0] == "chips: verified on 1 host, 16 chips, 3 days ago; no answer from node2"
    assert status_rows(standings(HERE, HOSTS, {}), NOW) == ["never (r1deploy diag); no answer from node1, node2"]


def test_what_lacks_does_not_change_with_the_time() -> None:
    kept = {"node1": DiagRecord.model_validate({**ALL, "network": None}), "node2": DiagRecord.model_validate(ALL)}
    assert lacking(standings(HERE, HOSTS, kept)) == ["network did not run on node1"]


@pytest.mark.parametrize(
    "change",
    [
        {"ok": 1},
        {"ok": "true"},
        {"chips": -1},
        {"chips": True},
        {"chips": 2**70},
        {"findings": "0"},
        {"release": "../x"},
        {"run": ""},
        {"time": "2026-3-2T11:00:00Z"},
        {"time": "2026-13-02T11:00:00Z"},
        {"time": "2026-03-02T11:00:00+00:00"},
        {"time": 7},
        {"time": "\x1b[2J"},
    ],
    ids=str,
)
def test_an_entry_of_another_shape_says_nothing_and_costs_no_other(change: dict[str, Any]) -> None:
    record = DiagRecord.model_validate({**ALL, "chips": {**RIGHT, **change}})
    assert record.chips is None and record.kernels == Kept.model_validate(RIGHT)


def test_a_newer_one_may_say_more() -> None:
    assert DiagRecord.model_validate({"chips": {**RIGHT, "more": 1}, "memory": {}}).of("chips") is not None


@pytest.mark.parametrize("damaged", [None, [], "x", 7, {"chips": []}])
def test_the_rest_of_the_host_is_known_where_the_file_is_damaged(damaged: Any) -> None:
    answer = copy.deepcopy(ANSWERS["0"])
    assert "diag" not in answer["state"] and observed_of(answer).state.diag is None, "a host of an older r1deploy"
    answer["state"]["diag"] = damaged
    assert observed_of(answer).state.diag in (None, DiagRecord())


# What ``service.require_diag`` forbids.


def check_of(name: str, **observed: Any) -> Check | None:
    """The finding of a case, with more of it changed on the head."""
    case = copy.deepcopy(CASES[name])
    case.setdefault("observed", {}).setdefault("node1", {}).update(observed)
    plan, _ = run(case)
    return next((row for row in plan.checks if row.name == "diag"), None)


def test_it_is_said_that_it_is_right() -> None:
    check = check_of("diag-right")
    assert check is not None and check.ok and check.code is None
    assert check_of("converged") is None, "nobody asked"


def test_where_something_serves_the_chips_are_not_free() -> None:
    """A switch to a release that is not verified: what serves has to stop for it."""
    free, taken = (
        check_of("diag-missing", **more)
        for more in ({}, {"processes.engines": [{"pid": 77, "container": "flagrelease_bi"}]})
    )
    assert free is not None and free.fix == "r1deploy diag"
    assert taken is not None and taken.fix == "r1deploy stop, then r1deploy diag"


ALIVE = [{"pid": 77, "container": "flagrelease_bi"}]


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({}, False),
        ({"state.active.proven": False}, False),
        ({"processes.engines": []}, False),
        ({"state.active.config": "c0c0c0c0c0c0"}, True),
        ({"state.active.release": "feedfeedfeed"}, True),
    ],
    ids=["serves", "still starts", "the engine died, Ray lives", "another configuration", "another release"],
)
def test_it_is_not_asked_of_what_lives(change: dict[str, Any], asked: bool) -> None:
    """``serve`` that has nothing to do, or joins what was begun, is not refused; a switch is."""
    check = check_of("diag-serves-already", **change)
    assert (check is not None and not check.ok) == asked


def test_after_a_stop_it_is_asked() -> None:
    case = copy.deepcopy(CASES["diag-serves-already"])
    for host in HOSTS:
        case["observed"].setdefault(host, {}).update({"processes.engines": [], "processes.raylets": []})
    plan, _ = run(case)
    assert [row.code for row in plan.blockers("serve")] == [DIAG_MISSING] and plan.blockers("bootstrap") == ()


MISSING = check_of("diag-missing")


def test_serve_is_refused_and_the_first_finding_gives_the_code() -> None:
    with pytest.raises(PreflightError, match="did not run") as caught:
        serve.refuse_unprepared(found(MISSING))
    assert (caught.value.code, caught.value.fix) == (DIAG_MISSING, "r1deploy diag")


def test_restart_refuses_before_it_stops_and_not_after() -> None:
    """The stop of what served brings the finding up: without it nobody could start that again."""
    with pytest.raises(PreflightError) as caught:
        refuse_incurable(RUN, found(MISSING))
    assert caught.value.code == DIAG_MISSING
    serve.refuse_unprepared(found(MISSING, down=True), ASKED)


def test_rollback_does_not_ask() -> None:
    assert DIAG_MISSING not in HOST_BLOCKERS
