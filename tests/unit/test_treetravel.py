"""Which trees travel to whom, and in which order a bootstrap builds, brings and goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy import applying
from r1deploy.ansible.events import Event
from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, LockedError, R1Error
from r1deploy.fanout import treetravel
from r1deploy.planning.layout import Layout
from r1deploy.planning.release import Tree
from r1deploy.planning.rolevars import groups
from r1deploy.planning.steps import STEPS

HOSTS = tuple(Host(f"node{number}", f"192.0.2.{number}", 8) for number in (1, 2, 3))
GEMS, SCALE = Tree("flaggems-1", ("FlagGems", "wheels")), Tree("flagscale-2", ("wheels",))


def view(work: Mapping[str, Sequence[str]]) -> Any:
    """What a plan with this work looks like. In: by step, the hosts."""
    desired = SimpleNamespace(
        hosts=HOSTS, builder=HOSTS[0], head=HOSTS[0], layout=Layout("/srv/r1"),
        release=SimpleNamespace(flaggems=GEMS, flagscale=SCALE),
    )  # fmt: skip
    return SimpleNamespace(desired=desired, plan=SimpleNamespace(hosts_of=lambda step: tuple(work.get(step, ()))))


class FakeRun:
    """Says, and remembers what was said."""

    settings = SimpleNamespace(cluster="c")

    def __init__(self) -> None:
        self.said: list[str] = []
        self.events: list[tuple[str, str, str | None]] = []
        self.say, self.bar = self.said.append, None
        self.context = SimpleNamespace(way=lambda *_: None)

    def heard(self, event: Event) -> None:
        """What goes to the log."""
        self.events.append((event.kind, event.step, event.host))


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was brought to whom; node3 does not get it."""
    rows: list[Any] = []

    class Fake:
        def __init__(self, _: object, source: Host, files: Any, told: object) -> None:
            self.source, self.files = source, files

        def run(self, hosts: Sequence[Host]) -> dict[str, R1Error | None]:
            rows.append((self.source.name, [host.name for host in hosts], self.files))
            if "flagscale-broken/wheels" in self.files.parts:
                raise ApplyError("STEP_FAILED", "node1: trees: it broke")
            bad = ApplyError("DISK_FULL", "node3: trees: its disk is full")
            return {host.name: bad if host.name == "node3" else None for host in hosts}

    monkeypatch.setattr(treetravel, "Bringing", Fake)
    return rows


def test_both_trees_go_as_one_to_the_same_hosts_and_the_manifests_come_last(brought: list[Any]) -> None:
    run: Any = FakeRun()
    treetravel.bring_trees(run, view({"sources": ("node1", "node2"), "vllm": ("node1", "node2")}), STEPS)
    ((source, names, files),) = brought
    assert (source, names, files.root) == ("node1", ["node2"], "/srv/r1/trees")
    gems = ("flaggems-1/FlagGems", "flaggems-1/wheels", "flaggems-1/manifest.json")
    assert files.parts == files.exact == (*gems, "flagscale-2/wheels", "flagscale-2/manifest.json")
    assert run.said == []


def test_each_tree_goes_to_those_that_lack_it_and_who_does_not_get_it_is_named(brought: list[Any]) -> None:
    run: Any = FakeRun()
    treetravel.bring_trees(run, view({"sources": ("node2",), "vllm": ("node2", "node3")}), STEPS)
    assert [(names, files.parts[0]) for _, names, files in brought] == [
        (["node2"], "flaggems-1/FlagGems"),
        (["node2", "node3"], "flagscale-2/wheels"),
    ]
    assert run.said == ["trees: node3: they come through the controller instead"]
    ends = [row for row in run.events if row[0] not in ("task", "start")]
    assert ends == [("changed", "sources", "node2"), ("changed", "vllm", "node2"), ("skipped", "vllm", "node3")]


def test_where_only_the_builder_has_work_nothing_travels(brought: list[Any]) -> None:
    run: Any = FakeRun()
    treetravel.bring_trees(run, view({"sources": ("node1",), "vllm": ("node1",)}), STEPS)
    treetravel.bring_trees(run, view({"sources": ("node2",)}), ("host", "image"))
    assert brought == [] and run.said == []


def test_a_builder_that_cannot_give_leaves_it_to_the_role(brought: list[Any]) -> None:
    run, seen = FakeRun(), view({"vllm": ("node2",)})
    seen.desired.release.flagscale = Tree("flagscale-broken", ("wheels",))
    treetravel.bring_trees(run, seen, STEPS)  # type: ignore[arg-type]
    assert run.said == [
        "trees: node1: trees: it broke (STEP_FAILED)",
        "trees: node2: they come through the controller instead",
    ]


def test_a_lost_lock_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise LockedError("LOCK_LOST", "no longer held")

    monkeypatch.setattr(treetravel, "Bringing", lose)
    run: Any = FakeRun()
    with pytest.raises(LockedError):
        treetravel.bring_trees(run, view({"vllm": ("node2",)}), STEPS)


def applied(monkeypatch: pytest.MonkeyPatch, work: Mapping[str, Sequence[str]]) -> list[Any]:
    """The order of what a bootstrap does, each play with its hosts by group."""
    rows: list[Any] = []

    def play(_: object, seen: Any, work: Any, *, cloned: bool, lane: str) -> None:
        found = groups(seen.desired, work)
        rows.append({name.removeprefix("drift_"): row for name, row in found.items() if row and name[:3] != "r1_"})

    monkeypatch.setattr(applying, "play", play)
    monkeypatch.setattr(applying, "load_of", lambda _: None)
    monkeypatch.setattr(applying, "bring_trees", lambda *_: rows.append("trees travel"))
    nothing: Any = None
    applying.apply(nothing, view(work), STEPS)
    return rows


def test_a_bootstrap_builds_then_trees_travel_then_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("node1", "node2")
    brings = {"sources": ("node2",), "ship_sources": ("node1",), "vllm": ("node2",), "ship_vllm": ("node1",)}
    work = {"sources": both, "patch": ("node1",), "vllm": both, "install": both}
    assert applied(monkeypatch, work) == [
        {"sources": ("node1",), "patch": ("node1",), "vllm": ("node1",)},
        "trees travel",
        {**brings, "install": both},
    ]


def test_without_a_build_only_what_lacks_is_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    assert applied(monkeypatch, {"vllm": ("node3",), "install": ("node3",)}) == [
        "trees travel",
        {"vllm": ("node3",), "ship_vllm": ("node1",), "install": ("node3",)},
    ]


def test_where_nothing_travels_one_playbook_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    work = {"sources": ("node1",), "install": ("node1", "node2")}
    assert applied(monkeypatch, work) == [{"sources": ("node1",), "install": ("node1", "node2")}]
