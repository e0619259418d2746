"""What ``restart`` refuses before it stops anything; and that a verdict is printed when the table is closed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.cli import deploy, opening
from r1deploy.errors import PreflightError
from r1deploy.observe.view import View
from r1deploy.planning.changes import UNPAUSED, Change
from r1deploy.planning.findings import SERVE, failed
from r1deploy.signals import Stopped
from r1deploy.ui import lines, planlines
from r1deploy.verbs import bootstrap, serve
from r1deploy.verbs.restart import refuse_incurable, serve_mends
from tests.unit.test_serving import HOSTS, host, serving
from tests.unit.test_switching import serving_now, view

RUN: Any = SimpleNamespace(settings=SimpleNamespace(container=SimpleNamespace(name="flagrelease_bi")))
TAKEN = failed("PORT_TAKEN", "port", "port 6379 is taken", "look", SERVE)
SICK = failed("CHIP_SICK", "chips", "chip 3", "replace it", SERVE)
PAUSED = Change("container", "node1", "flagrelease_bi", "paused", "running", UNPAUSED)
EDITED = Change("config", "node1", "env.sh", "a", "b", "edited by hand")


def found(*checks: Any, changes: tuple[Change, ...] = (), down: bool = False) -> View:
    """Our Ray lives on both hosts, or with ``down`` nothing of ours."""
    nothing = {"processes__engines": [], "processes__raylets": []}
    states = {name: host(name, **nothing) for name in HOSTS} if down else {name: host(name) for name in HOSTS}
    seen = view(serving("deepseek-r1", HOSTS, states) if down else serving_now(), None, changes)
    plan = dataclasses.replace(seen.plan, checks=checks)
    probed: Any = SimpleNamespace(observed=states, failures={})
    return dataclasses.replace(seen, plan=plan, probed=probed)


def test_what_the_stop_itself_mends_does_not_forbid_it() -> None:
    """A dead engine leaves Ray with its port and its chips: that is when somebody calls restart."""
    refuse_incurable(RUN, found(TAKEN, changes=(PAUSED,)))


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (found(SICK), "CHIP_SICK"),
        (found(TAKEN, down=True), "PORT_TAKEN"),
    ],
    ids=["a sick chip", "another's port"],
)
def test_what_no_stop_mends_is_refused_before_it(seen: View, code: str) -> None:
    with pytest.raises(PreflightError) as caught:
        refuse_incurable(RUN, seen)
    assert caught.value.code == code


def test_a_release_that_is_not_whole_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "not_bootstrapped", lambda _: PreflightError("NOT_BOOTSTRAPPED", "due"))
    for seen in (found(changes=(EDITED,)), found(changes=(PAUSED,), down=True)):
        with pytest.raises(PreflightError, match="due"):
            refuse_incurable(RUN, seen)


def test_after_a_signal_serve_is_advised() -> None:
    with pytest.raises(Stopped) as caught, serve_mends():
        raise Stopped(2)
    assert caught.value.fix == "r1deploy serve goes on from here"


def test_a_verdict_is_printed_when_the_table_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the table is drawn in place: what is printed before it is closed is drawn over."""
    told: list[str] = []

    class Shown(lines.Progress):
        def __exit__(self, *error: object) -> None:
            told.append("closed")

    done: Any = SimpleNamespace(applied=None, view=None)
    run: Any = SimpleNamespace(context=None)
    monkeypatch.setattr(deploy, "progress", Shown)
    monkeypatch.setattr(opening, "open_run", lambda *_, **__: run)
    monkeypatch.setattr(bootstrap, "bootstrap", lambda *_: done)
    monkeypatch.setattr(planlines, "done_lines", lambda *_: ["verdict"])
    monkeypatch.setattr(lines, "show", lambda *rows: told.extend(rows))
    monkeypatch.setattr("r1deploy.observe.context.remember_inventory", lambda *_: None)
    deploy.bootstrap_command(folder=tmp_path, yes=True)
    assert told == ["closed", "verdict"]
