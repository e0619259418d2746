"""What serves, by one notion: each thing that can be missing, and what is then said (field.md 4.9, 6.4, 6.5, 6.10)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from r1deploy.planning.observed import Observed
from r1deploy.planning.recorded import Record
from r1deploy.planning.whatserves import Serving, in_use, needs_ray, serving
from tests.plans.test_plans import BASE, put

HOSTS = ("node1", "node2")
RECORD: dict[str, Any] = {
    "release": "aaaaaaaaaaaa",
    "config": "bbbbbbbbbbbb",
    "image": None,
    "trees": ["flaggems-1", "flagscale-1"],
    "commits": {},
    "container": "flagrelease_bi",
    "service": "deepseek_r1",
    "mode": "flagscale",
    "model": "deepseek_r1",
    "port": 9010,
    "ssh_port": 22,
    "hosts": [
        {"name": "node1", "address": "10.0.0.1", "slots": 2, "files": {}},
        {"name": "node2", "address": "10.0.0.2", "slots": 2, "files": {}},
    ],
}
ACTIVE = {"release": "aaaaaaaaaaaa", "config": "bbbbbbbbbbbb", "since": None, "proven": True, "previous": None}
GCS = "10.0.0.1:6379"


def host(name: str, **changes: Any) -> Observed:
    """A host of a service that serves, with changes by dotted path (``__`` for the dot)."""
    found: dict[str, Any] = copy.deepcopy(BASE["observed"])
    found["containers"][0] |= {"release": "aaaaaaaaaaaa", "spec": {}}
    found["image"] = None
    found["ssh"] = {"host_keys": [], "authorized": []}
    found["net"] |= {"address": "10.0.0.1", "ip": "10.0.0.1"}
    found["state"] |= {"bin": {}, "folders": {}, "trees": {}, "active": copy.deepcopy(ACTIVE)}
    found["state"]["releases"] = {"aaaaaaaaaaaa": {"configs": {}, "records": {"bbbbbbbbbbbb": copy.deepcopy(RECORD)}}}
    found["processes"]["raylets"] = [{"pid": 70, "container": "flagrelease_bi", "gcs": GCS}]
    if name == "node1":
        found["processes"]["engines"] = [{"pid": 77, "container": "flagrelease_bi"}]
        found["service"]["health"] = 200
    for path, value in changes.items():
        put(found, path.replace("__", "."), value)
    return Observed.model_validate(found)


def seen(silent: tuple[str, ...] = (), **hosts: dict[str, Any]) -> Serving:
    """The service of two hosts, some of them changed or silent."""
    return serving("deepseek-r1", HOSTS, {n: host(n, **hosts.get(n, {})) for n in HOSTS if n not in silent})


def test_all_there_serves() -> None:
    found = seen()
    assert found.whole and found.serves is True and found.name == "aaaaaaaaaaaa/bbbbbbbbbbbb"
    assert found.is_(Record.model_validate(RECORD))
    assert not found.is_(Record.model_validate({**RECORD, "config": "cccccccccccc"}))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("node2", {"containers__0__paused": True}, "flagrelease_bi is paused"),
        ("node2", {"containers__0__running": False}, "flagrelease_bi is stopped"),
        ("node2", {"containers": []}, "flagrelease_bi is not the container of release aaaaaaaaaaaa"),
        ("node2", {"containers__0__release": "cccccccccccc"}, "flagrelease_bi is not the container of release"),
        ("node2", {"containers__0__cluster": "other"}, "flagrelease_bi is not the container of release"),
        ("node2", {"processes__raylets": []}, "no node of Ray in flagrelease_bi"),
        ("node2", {"processes__raylets__0__container": "flagrelease_bi-x"}, "no node of Ray in flagrelease_bi"),
        ("node2", {"processes__raylets__0__gcs": "10.0.0.9:1"}, "its node is in the Ray of 10.0.0.9:1"),
        ("node1", {"processes__engines": []}, "no engine in flagrelease_bi"),
        ("node1", {"processes__engines__0__container": "flagrelease_bi-x"}, "no engine in flagrelease_bi"),
    ],
)
def test_each_missing_part_is_named_and_then_it_does_not_serve(name: str, changes: dict[str, Any], said: str) -> None:
    """field.md 6.4, 6.5: paused, stopped, foreign, without Ray, without an engine."""
    found = seen(**{name: changes})
    assert not found.whole and found.serves is False
    assert [row.host for row in found.problems] == [name] and found.problems[0].text.startswith(said)


def test_a_healthy_port_of_another_service_is_not_ours() -> None:
    """field.md 4.9: the record's own port counts, and no answer there is no service."""
    assert seen(node1={"service__port": 9011}).serves is False
    assert seen(node1={"service__health": 503}).serves is False


def test_a_silent_host_makes_it_unknown_unless_something_is_known_to_be_missing() -> None:
    """field.md 6.8: unknown is unknown."""
    assert seen(silent=("node2",)).serves is None and seen(silent=("node2",)).unknown == ("node2",)
    assert seen(silent=("node1",)).serves is None
    assert seen(silent=HOSTS).serves is None and seen(silent=HOSTS).active is None
    assert seen(silent=("node2",), node1={"processes__engines": []}).serves is False


def test_nothing_active_does_not_serve() -> None:
    found = seen(node1={"state__active": None}, node2={"state__active": None})
    assert (found.active, found.name, found.serves, found.whole) == (None, "none", False, False)


def test_the_record_is_taken_from_another_host_where_the_head_has_lost_it() -> None:
    """field.md 6.10, its sibling: the head's own active.json."""
    found = seen(node1={"state__active": None})
    assert found.serves is True
    assert [(row.host, row.text) for row in found.unrecorded] == [("node1", "absent")]
    gone = seen(node1={"state__releases": {}})
    assert gone.serves is False and "the record of aaaaaaaaaaaa/bbbbbbbbbbbb is gone" in gone.problems[0].text


def test_a_lost_active_json_does_not_stop_what_serves() -> None:
    """field.md 6.10"""
    found = seen(node2={"state__active": None})
    assert found.whole and found.serves and [row.host for row in found.unrecorded] == ["node2"]
    unproven = {"state__active__proven": False}
    assert seen(node1=unproven, node2={"state__active": None}).unrecorded == ()


@pytest.mark.parametrize(
    ("mode", "hosts", "wanted"),
    [
        ("flagscale", 2, True),
        ("flagscale", 1, False),
        ("ray+vllm", 2, True),
        ("ray+vllm", 1, True),
        ("vllm", 1, False),
    ],
)
def test_ray_is_asked_for_where_the_mode_needs_it(mode: str, hosts: int, wanted: bool) -> None:
    record = Record.model_validate({**RECORD, "mode": mode, "hosts": RECORD["hosts"][:hosts]})
    assert needs_ray(record) is wanted


def test_trees_in_use_are_those_of_a_container_with_processes() -> None:
    """field.md 6.9"""
    assert in_use(host("node2")) == dict.fromkeys(RECORD["trees"], ("flagrelease_bi", 70))
    assert in_use(host("node2", processes__raylets=[])) == {}
