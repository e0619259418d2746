"""What was agreed to is what is applied, and an inventory is remembered when a verb succeeded with it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.errors import Interrupted, UsageError
from r1deploy.observe.context import Context, open_context, remember_inventory
from r1deploy.planning.changes import Change
from r1deploy.planning.planner import Plan
from r1deploy.run import Run, Voice
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock
from r1deploy.verbs import bootstrap as verb
from r1deploy.verbs.bootstrap import Options

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@invalid")
SETTINGS = """\
image: {{tarball: null}}
flaggems: {{url: '{url}', ref: main}}
flagscale: {{url: '{url}', ref: main}}
patch: {{backends: [], encrypted: false}}
"""


def git(*argv: str) -> str:
    return subprocess.run(["git", *argv], check=True, capture_output=True, text=True).stdout.strip()


class Site:
    """A cluster's folder, and an upstream whose branch moves each time somebody looks at the hosts."""

    def __init__(self, tmp_path: Path) -> None:
        self.upstream, self.folder = tmp_path / "upstream", tmp_path / "site"
        self.folder.mkdir()
        git("init", "-q", "-b", "main", str(self.upstream))
        for key in ("allowAnySHA1InWant", "allowFilter"):
            git("-C", str(self.upstream), "config", f"uploadpack.{key}", "true")
        self.move()
        (self.folder / "r1deploy.yaml").write_text(SETTINGS.format(url=f"file://{self.upstream}"))
        (self.folder / "inventory.ini").write_text("[cluster]\nnode1\n")
        self.locks: list[Lock] = []
        self.said: list[str] = []
        self.applied: list[Lock] = []
        self.plans: Callable[[int], tuple[Change, ...]] = lambda number: (change("a"),) if number < 2 else ()

    def move(self) -> str:
        git("-C", str(self.upstream), *IDENTITY, "commit", "-q", "--allow-empty", "-m", "news")
        return git("-C", str(self.upstream), "rev-parse", "HEAD")

    def look(self, context: Context, lock: Lock) -> Any:
        self.locks.append(lock)
        self.move()
        nothing: Any = None  # what serves is no matter here
        plan = Plan(self.plans(len(self.locks) - 1), (), (), nothing)
        hosts = SimpleNamespace(failures={}, hosts=(), observed={})
        desired = SimpleNamespace(image_id="sha256:x", head=SimpleNamespace(name="node1"))
        return SimpleNamespace(lock=lock, probed=hosts, desired=desired, plan=plan)

    def apply(self, run: Run, view: Any, *_: object) -> None:
        self.applied.append(view.lock)

    def bootstrap(self, confirm: Callable[[Any], None], upgrade: frozenset[str] = frozenset()) -> None:
        run = Run(open_context(self.folder, None, {}), Voice(self.said.append))
        verb.bootstrap(run, Options(upgrade), confirm)


def change(value: str) -> Change:
    return Change("sources", "node1", "flaggems", "none", value, "another commit is locked")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = Site(tmp_path)
    monkeypatch.setattr(verb, "look", found.look)
    monkeypatch.setattr(verb, "apply", found.apply)
    monkeypatch.setattr(Run, "hold", lambda *_: contextlib.nullcontext())
    return found


def test_a_branch_that_moves_between_two_looks_changes_nothing(site: Site) -> None:
    """field.md 5.3: the lock that was shown is the one that is applied and written, whatever upstream does."""
    shown: list[Lock] = []
    site.bootstrap(lambda view: shown.append(view.lock))
    first = shown[0].flaggems
    assert first and first.commit != git("-C", str(site.upstream), "rev-parse", "HEAD")
    assert len(shown) == 1 and len(site.locks) == 3
    assert {lock.flaggems for lock in [*site.locks, *site.applied]} == {first}
    written = lockfile.read(site.folder / lockfile.FILE_NAME)
    assert written == shown[0]
    # The same with a lock that is there already, and --upgrade.
    site.locks.clear()
    site.bootstrap(lambda view: shown.append(view.lock), frozenset({"flaggems", "flagscale"}))
    assert shown[1].flaggems != first
    assert {lock.flaggems for lock in site.locks} == {shown[1].flaggems}
    assert lockfile.read(site.folder / lockfile.FILE_NAME) == shown[1]
    assert len([line for line in site.said if line.startswith("locked flaggems")]) == 2


def test_another_plan_once_the_cluster_is_held_is_asked_for_again(site: Site) -> None:
    site.plans = lambda number: [(change("a"),), (change("b"),), ()][number]
    shown: list[str] = []
    site.bootstrap(lambda view: shown.append(view.plan.changes[0].desired))
    assert shown == ["a", "b"] and any("changed since" in line for line in site.said)


def test_another_plan_that_is_refused_is_not_applied(site: Site) -> None:
    site.plans = lambda number: (change("ab"[number]),)

    def confirm(view: Any) -> None:
        if view.plan.changes[0].desired == "b":
            raise Interrupted("INTERRUPTED", "the answer was no; nothing was done")

    with pytest.raises(Interrupted):
        site.bootstrap(confirm)
    assert site.applied == [] and lockfile.read(site.folder / lockfile.FILE_NAME) is None


def test_what_another_run_has_done_meanwhile_is_not_asked_for(site: Site) -> None:
    site.plans = lambda number: (change("a"),) if number == 0 else ()
    shown: list[Any] = []
    site.bootstrap(shown.append)
    assert len(shown) == 1 and site.applied == []


def test_refused_before_the_lock_and_before_anything_is_written(site: Site) -> None:
    """field.md 5.1: the question comes first; without an answer nothing happens."""

    def confirm(_: Any) -> None:
        raise UsageError("YES_MISSING", "nobody to ask")

    with pytest.raises(UsageError):
        site.bootstrap(confirm)
    assert site.applied == [] and len(site.locks) == 1
    assert lockfile.read(site.folder / lockfile.FILE_NAME) is None


def test_an_inventory_is_remembered_after_a_success_and_that_is_said(tmp_path: Path) -> None:
    """field.md 5.2."""
    for name in ("inventory.ini", "other.ini"):
        (tmp_path / name).write_text("[cluster]\nnode1\n")
    said: list[str] = []
    context = open_context(tmp_path, tmp_path / "other.ini", {})
    assert context.inventory.name == "other.ini"
    assert open_context(tmp_path, None, {}).inventory.name == "inventory.ini", "opened is not succeeded"
    remember_inventory(context, said.append)
    assert open_context(tmp_path, None, {}).inventory.name == "other.ini"
    assert len(said) == 1 and str(tmp_path / "other.ini") in said[0]
    # The same again is nothing to say; the default is remembered like any other.
    remember_inventory(open_context(tmp_path, tmp_path / "other.ini", {}), said.append)
    remember_inventory(open_context(tmp_path, None, {}), said.append)
    assert len(said) == 1
    remember_inventory(open_context(tmp_path, tmp_path / "inventory.ini", {}), said.append)
    assert open_context(tmp_path, None, {}).inventory.name == "inventory.ini" and len(said) == 2


def test_a_folder_that_cannot_remember_says_so(tmp_path: Path) -> None:
    (tmp_path / "other.ini").write_text("[cluster]\nnode1\n")
    (tmp_path / ".r1deploy").write_text("in the way")
    said: list[str] = []
    context = open_context(tmp_path, tmp_path / "other.ini", {})
    remember_inventory(context, said.append)
    assert "not remembered" in said[0]
