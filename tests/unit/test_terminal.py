"""field.md 1.5: control characters of a host reach no terminal, on no way."""

from __future__ import annotations

import ast
import io
import json
import sys
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import r1deploy
from r1deploy.ansible.events import Event
from r1deploy.errors import ApplyError
from r1deploy.planning.changes import Change
from r1deploy.planning.findings import failed
from r1deploy.planning.planner import Plan
from r1deploy.planning.whatserves import Serving
from r1deploy.ui import lines, live, planlines, terminal

EVIL = "a\x1b[2J\x07\r\x9b31m\x7f\u202eb\x00\udc80"
SHOWN = "a\\x1b[2J\\x07\\x0d\\x9b31m\\x7f\\u202eb\\x00\\udc80"
PACKAGE = Path(r1deploy.__file__ or "").parent


def harmless(text: str) -> bool:
    """Nothing in it moves a cursor, and every terminal takes it."""
    wrong = [char for char in text if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char not in "\n\t"]
    turning = [char for char in text if unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI",
                                                                           "RLI", "FSI", "PDI")]  # fmt: skip
    return not wrong and not turning


@given(st.text())
def test_any_text_is_shown_harmless_and_the_rest_of_it_stays(text: str) -> None:
    found = terminal.shown(text)
    assert harmless(found)
    assert terminal.shown(found) == found
    if harmless(text) and not set(text) & set("\u061c\u200e\u200f\ufeff"):
        assert found == text


def test_lines_of_all_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    """Plans, findings, errors with evidence, tables, progress, JSON: all that host said goes through one door."""
    plan = Plan((Change("host", "node1", EVIL, EVIL, EVIL, EVIL),), (), (), Serving(None, None))
    lines.show(*planlines.plan_lines(plan, True))
    lines.show(*lines.check_lines([failed("WEIGHTS_MISSING", "weights", EVIL, EVIL).at("node1")], True))
    for row in lines.error_lines(ApplyError("STEP_FAILED", EVIL, evidence=[EVIL], fix=EVIL)):
        lines.say(row)
    lines.show(*lines.table([["a", EVIL], [f"{EVIL}\nx", "b"]]))
    progress = lines.Progress()
    progress.event(Event("failed", "host", EVIL, "node1"))
    progress.bar(EVIL, 1, 2)
    terminal.show_stream(EVIL)
    terminal.say_stream(EVIL)
    terminal.over(EVIL, last=True)
    out, err = capsys.readouterr()
    assert harmless(out) and harmless(err.replace("\r\x1b[K", ""))
    assert SHOWN in out and SHOWN in err


def test_live_display(monkeypatch: pytest.MonkeyPatch) -> None:
    table = live.Table()
    monkeypatch.setattr(table, "_draw", lambda: None)
    table.event(Event("start", "host", EVIL, "node1"))
    table.bar(EVIL, 1, 2)
    console = Console(file=io.StringIO(), width=200)
    console.print(table.picture())
    assert harmless(console.file.getvalue())  # type: ignore[attr-defined]


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    lines.document({"name": EVIL, "é": "→"})
    out = capsys.readouterr().out
    assert harmless(out) and "→" in out
    assert json.loads(out) == {"name": EVIL, "é": "→"}


def test_colours_of_a_log_go_and_nothing_can_hide_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_stream("\x1b[1;36m(Engine)\x1b[0;0m up \x1b\x1b[0m[2J")
    assert capsys.readouterr().out == "(Engine) up \\x1b[2J\n"


PAST = {"print", "sys.stdout.write", "sys.stderr.write", "typer.echo", "typer.secho", "console.print"}


def test_nothing_prints_past_the_door() -> None:
    """One module prints; rich draws what is escaped before."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "standins" in path.parts or "_content" in path.parts or path.name == "terminal.py":
            continue
        if path.parent.name in ("onhost", "files"):  # they speak to us, not to a terminal
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            # Also where it is only handed on.
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in PAST:
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []


class Slow(io.StringIO):
    """A terminal that lets another thread go first after each write."""

    def write(self, text: str, /) -> int:
        done = super().write(text)
        time.sleep(0.001)
        return done


def test_lines_of_hosts_that_speak_at_once_stay_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Slow()
    monkeypatch.setattr(sys, "stdout", out)
    rows = [f"node{number} | 0" for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(terminal.show_stream, rows))
    assert sorted(out.getvalue().splitlines()) == sorted(rows)
