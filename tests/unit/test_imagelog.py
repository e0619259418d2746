"""The image's way from host to host, as the log and the display have it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import critical
from r1deploy import applying
from r1deploy.ansible.events import Event
from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError
from r1deploy.fanout.logged import SPREAD
from r1deploy.fanout.spreading import Load
from r1deploy.journal import Journal
from r1deploy.planning.changes import Change
from r1deploy.planning.planner import Plan
from r1deploy.run import Run, Voice

ALL = ("a", "b", "c")


def test_the_way_of_the_image_is_in_the_log_with_each_hosts_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    hosts = [Host(name, f"192.0.2.{number}", 8) for number, name in enumerate(ALL, 1)]
    view: Any = SimpleNamespace(
        plan=Plan(tuple(Change("image", host, "x", "a", "b", "") for host in ALL), (), (), SimpleNamespace()),  # type: ignore[arg-type]
        desired=SimpleNamespace(builder=hosts[1], head=hosts[0], hosts=hosts),
        probed=None,
    )
    full = ApplyError("DISK_FULL", "c: image: full", host="c", evidence=["no space left"])

    def spread(ways: Any, hosts: Any, load: Any, told: Any) -> dict[str, ApplyError | None]:
        assert [host.name for host in hosts] == ["b", "a", "c"], "the builder is the first one"
        told.check()
        ended = {"b": None, "a": None, "c": full}
        for host, error in ended.items():
            told.settled(host, error)
        return ended

    monkeypatch.setattr(applying, "spread", spread)
    context: Any = SimpleNamespace(way=lambda *_: None)
    run, shown, settled = Run(context, Voice()), list[Event](), list[str]()
    run._journal = Journal("lanes", "bootstrap", shown.append)
    load = Load(tmp_path / "image.tar", 5, "0" * 64, {})
    with pytest.raises(ApplyError, match="full"):
        applying.bring_image(run, view, load, lambda host, _: settled.append(host))
    assert settled == ["b", "a", "c"]
    assert run.log is not None
    rows = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert {(row["step"], row["task"]) for row in rows} == {("image", SPREAD)}
    assert [(row["kind"], row["host"]) for row in rows] == [
        ("task", None),
        ("changed", "b"),
        ("changed", "a"),
        ("failed", "c"),
    ]
    assert rows[-1]["result"] == {"msg": "c: image: full"}
    assert [event.host for event in shown if event.kind == "start"] == ["b", "a", "c"]
    assert {piece.host for piece in critical.seconds_of(rows, "b")} == set(ALL)
