"""Progress: lines without a terminal; on one a table that fits, and leaves the terminal as it was."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pexpect
import pytest
from rich.console import Console

from r1deploy.ansible.events import Event, Kind, event_of
from r1deploy.ui import lines, live

LONG = "A task whose name is far longer than any terminal is wide, and then goes on for a while " * 2
SHOWN, HIDDEN = "\x1b[?25h", "\x1b[?25l"


def event(kind: Kind, host: str | None, task: str = "Run the job", step: str = "vllm") -> Event:
    return Event(kind, step, task, host)


def drawn(table: live.Table, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None, legacy_windows=False).print(table.picture())
    return out.getvalue().splitlines()


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[live.Table]:
    monkeypatch.setattr(live.Table, "_draw", lambda self: None)
    with live.Table() as found:
        yield found


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with live.progress() as shown:
        assert type(shown) is lines.Progress
        shown.event(event("task", None))
        shown.event(event("start", "node1"))
        shown.event(event("ok", "node1"))
        shown.event(event("failed", "node2"))
        shown.bar("loading weights", 1, 4)
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split("s  ", 1)[1] for line in said.err.splitlines()] == [
        "vllm      Run the job",
        "vllm      node2: failed: Run the job",
        "loading weights [#####...............] 1/4",
    ]


def test_a_lanes_line_is_not_taken_by_another_lane(capsys: pytest.CaptureFixture[str]) -> None:
    """One lane begins a task while a task of another one waits to be known as not skipped."""
    with live.progress() as shown:
        for lane, task in (("builder", "Run the job"), ("others", "Run the container"), ("others", "Skipped")):
            shown.event(replace(event("task", None, task), lane=lane))
            if task == "Run the container":
                shown.event(replace(event("ok", "node2", task), lane=lane))
        shown.event(replace(event("ok", "node1"), lane="builder"))
    said = capsys.readouterr().err.splitlines()
    assert [line.split("vllm      ", 1)[1] for line in said] == ["Run the container", "Run the job"]


@pytest.mark.parametrize(
    ("tty", "term", "kind"),
    [
        (True, "xterm", live.Table),
        (True, "dumb", lines.Progress),
        (True, "", lines.Progress),
        (False, "xterm", lines.Progress),
    ],
)
def test_the_choice(monkeypatch: pytest.MonkeyPatch, tty: bool, term: str, kind: type) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty, raising=False)
    monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM", raising=False)
    assert type(live.progress()) is kind


@pytest.mark.parametrize("width", [45, 80, 200])
def test_a_row_a_host_within_the_width(table: live.Table, width: int) -> None:
    for host in ("node1", "node2", "a-host-with-a-long-name.example"):
        table.event(event("start", host, LONG))
    table.bar("loading weights", 3, 16)
    rows = drawn(table, width)
    assert len(rows) == 4, "three hosts and the bar"
    assert all(len(row) <= width for row in rows), rows
    assert all(row.split()[1:3] == ["vllm", "0s"] for row in rows[:3]), rows
    assert rows[3].startswith("0s  loading weights ━")
    table.bar("loading weights", 16, 16)
    assert "step 6 of 9" in drawn(table, width)[3], "what is whole gives way to the step"


def test_rows_say_step_time_and_last_line(table: live.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    table.event(event("task", None))
    table.event(event("start", "node1", "Copy", "image"))
    now = 107.0
    table.event(event("ok", "node1", "Copy", "image"))
    table.event(event("start", "node2"))
    table.event(event("skipped", "node2", "Skipped"))
    table.event(event("start", "node2", "Build"))
    table.event(event("start", "node2", "Validating arguments against arg spec 'main'"))
    now = 130.0
    assert [row.split() for row in drawn(table)[:2]] == [
        ["node1", "image", "7s", "Copy"],
        ["node2", "vllm", "23s", "Build"],
    ]
    assert "[red]" not in str(drawn(table))


def test_a_failed_host_stays_failed_and_has_a_line_of_its_own(
    table: live.Table, capsys: pytest.CaptureFixture[str]
) -> None:
    table.event(event("start", "node1"))
    table.event(event("failed", "node1", "[bold]Build[/bold]"))
    table.event(event("ok", "node1", "Clean up"))
    assert "node1: failed: [bold]Build[/bold]" in capsys.readouterr().err
    assert "failed: [bold]Build[/bold]" in drawn(table)[0], "what comes from outside is no markup"


def test_the_last_picture_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 5.13: the bar stood at 1/3 below "Serves."."""
    monkeypatch.setattr(live.Table, "_draw", lambda self: None)
    with live.Table() as table:
        table.event(event("start", "node1", "Load", "service"))
        table.event(event("start", "node1", "Not for this host", "service"))
        table.event(event("skipped", "node1", "Not for this host", "service"))
        table.bar("loading weights", 1, 3)
    last = drawn(table)
    assert last[-1].split()[1:] == ["done"] and "1/3" not in "".join(last)
    assert "Not for this host" not in "".join(last)
    with pytest.raises(ValueError, match="no"), live.Table() as table:
        table.event(event("start", "node1"))
        table.bar("loading weights", 1, 3)
        raise ValueError("no")
    assert "1/3" in drawn(table)[-1], "how far it came"
    assert all(row.ended for row in table.rows.values())


def test_a_start_is_an_event_of_ours() -> None:
    raw = {"event": "runner_on_start", "event_data": {"play": "vllm: build", "task": "Build", "host": "node1"}}
    assert event_of(raw) == Event("start", "vllm", "Build", "node1")


SCRIPT = """
import sys, time
from r1deploy.ansible.events import Event
from r1deploy.ui import lines
from r1deploy.ui.live import progress
try:
    with progress() as shown:
        lines.say("before")
        shown.event(Event("start", "vllm", "Run the job", "node1"))
        time.sleep(0.6)
        lines.say("[red]beside[/red]")
        shown.bar("loading weights", 3, 16)
        time.sleep(0.6)
        {ending}
except BaseException as error:
    lines.say("Error: " + type(error).__name__)
print("END", sys.stdout.isatty())
"""


@pytest.mark.parametrize(
    ("ending", "last"),
    [("pass", "END"), ("raise ValueError", "Error: ValueError"), ("time.sleep(30)", "Error: KeyboardInterrupt")],
    ids=["done", "error", "Ctrl-C"],
)
def test_on_a_real_terminal(ending: str, last: str) -> None:
    env = {**os.environ, "TERM": "xterm", "PYTHONUNBUFFERED": "1"}
    child = pexpect.spawn(
        sys.executable, ["-c", SCRIPT.format(ending=ending)], env=env, dimensions=(24, 80), encoding="utf-8", timeout=30
    )
    said = io.StringIO()
    child.logfile_read = said
    child.expect("3/16")
    if "sleep(30)" in ending:
        child.kill(signal.SIGINT)
    child.expect("END True")
    child.expect(pexpect.EOF)
    text = said.getvalue()
    assert "before\r\n" in text and "[red]beside[/red]" in text
    assert text.rindex(SHOWN) > text.rindex(HIDDEN), "the cursor is back"
    assert text.index(last) > text.rindex(SHOWN), "what comes after the table stands below it"
    assert text.count("node1") >= 2


WATCHER = """
import signal
from r1deploy.signals import Stopped
from r1deploy.errors import R1Error
from r1deploy.ui import live
live.WATCH_SECONDS = 0.3
answers = iter([["first"], ["first"], None, ["last"]])
def look():
    try:
        found = next(answers)
    except StopIteration:
        raise Stopped(signal.SIGINT)
    if found is None:
        raise R1Error("PROBE_INCOMPLETE", "a host is away")
    return found
live.watched(look)
print("ended")
"""


def test_a_watch_says_what_differs_outlives_an_error_and_ends_quietly() -> None:
    """field.md 5.5: Ctrl-C in the middle of a look ends it."""
    done = subprocess.run([sys.executable, "-c", WATCHER], capture_output=True, text=True, check=False, timeout=60)
    rows = [row for row in done.stdout.splitlines() if row]
    assert rows == ["first", "PROBE_INCOMPLETE: a host is away", "last", "ended"]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_watch_on_a_terminal_draws_in_place() -> None:
    child = pexpect.spawn(sys.executable, ["-c", WATCHER], dimensions=(24, 80), env={**os.environ, "TERM": "xterm"})
    child.expect("first.*again in 0.3 s", timeout=60)
    child.expect("a host is away")
    child.expect("last")
    child.expect("ended")
    child.expect(pexpect.EOF)
    assert child.wait() == 0
