"""Lines for people, at the most as wide as the terminal; the same with and without a tty."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import textwrap
import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from r1deploy.cluster.alike import nameless, one_of
from r1deploy.cluster.ranges import FEWEST, spoken
from r1deploy.settings import redact
from r1deploy.ui.terminal import say, show, show_json, shown
from r1deploy.units import duration

if TYPE_CHECKING:
    from r1deploy.ansible.events import Event
    from r1deploy.errors import R1Error
    from r1deploy.planning.findings import Check
    from r1deploy.serving.switching import Gap

__all__ = ["document", "say", "show"]


# Of one line of evidence; the run's log has all of it.
MOST_ROWS = 8
# What a switch does first.
BEFOREHAND = (
    "before that, while it serves: new containers are checked and started, the weights are read into the page cache "
    "where memory allows"
)
PAD = " " * 7
# A task that all hosts skip is over before that.
HOLD_SECONDS = 0.5


def width() -> int:
    """Columns to write for."""
    return min(shutil.get_terminal_size((80, 24)).columns, 100)


def document(value: Any) -> None:
    """One JSON document on standard output."""
    show_json(json.dumps(redact.hide_in(value), indent=2, ensure_ascii=False))


# What a table is drawn with: it says nothing, and would be one word that no screen is wide enough for.
_DRAWN = re.compile(r"[-+=_*#~]{40,}")


def wrap(text: str, first: str, rest: str) -> list[str]:
    """A text in lines, its own line ends kept; words are never broken, since paths and commands get copied."""
    rows: list[str] = []
    for line in redact.hide(text).splitlines():
        rows += textwrap.wrap(
            shown(line.strip()),
            width(),
            initial_indent=rest if rows else first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return rows or [first.rstrip()]


def evidence_lines(evidence: Iterable[str]) -> list[str]:
    """What the failed thing said, in whole words. Of a line that fills the screen the beginning is shown."""
    rows: list[str] = []
    for line in evidence:
        wrapped = wrap(_DRAWN.sub(lambda rule: rule.group()[:40], line), "  | ", "  |   ")
        rows += [*wrapped[:MOST_ROWS], *(["  |   …"] if len(wrapped) > MOST_ROWS else [])]
    return rows


def counted(number: int, noun: str) -> str:
    """``1 host``, ``2 hosts``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def error_lines(error: R1Error) -> list[str]:
    """What, where, why, the evidence, what to do, the full log."""
    rows = wrap(f"{error.code}: {error.message}", "Error: ", "  ")
    rows += evidence_lines(error.evidence)
    if error.fix:
        rows += wrap(error.fix, "  Fix: ", "       ")
    if error.log:
        rows.append(f"  Log: {error.log}")
    return rows


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as columns; the last column is as long as it is."""
    if not rows:
        return []
    # A cell is one line, whatever a host put into it.
    rows = [[shown(cell).replace("\n", "\\n") for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]) - 1)]
    return [
        " ".join([*(cell.ljust(wide) for cell, wide in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def check_lines(checks: Iterable[Check], verbose: bool, whole: str = "cluster") -> list[str]:
    """Findings: failures and warnings with their fix, the others with -v; hosts with the same finding together.

    In: the word for what has no host.
    """
    groups: dict[tuple[object, ...], list[Check]] = {}
    for at, check in enumerate(checks):
        if check.ok and not check.warning and not verbose:
            continue
        own = None if check.host else at
        text = check.detail if verbose else ""
        key = (own, check.name, check.code, check.ok, check.warning, nameless(check.host or "", text))
        groups.setdefault(key, []).append(check)
    rows: list[str] = []
    for mine in groups.values():
        small = len({check.host for check in mine}) < FEWEST
        for group in [[check] for check in mine] if small else [mine]:
            rows += finding_lines(group, whole)
    return rows


def finding_lines(group: Sequence[Check], whole: str) -> list[str]:
    """One finding, of one host or of several. In: the word for what has no host."""
    check = group[0]
    mark = "warn" if check.warning else "ok  " if check.ok else "FAIL"
    hosts = spoken(row.host for row in group if row.host) or whole
    rows = wrap(f"{hosts}: {check.name}: {one_of([(row.host or '', row.detail) for row in group])}", f"  {mark} ", PAD)
    if not check.ok or check.warning:
        fix = one_of([(row.host or "", row.fix or "no fix known") for row in group])
        rows += wrap(f"{check.code}: {fix}", PAD, PAD)
    return rows


def verdict(checks: Sequence[Check]) -> str:
    """The last line below findings."""
    warnings = sum(check.warning for check in checks)
    also = f", {counted(warnings, 'warning')}" if warnings else ""
    return f"{len(checks) - warnings} checks, {sum(not check.ok for check in checks)} failed{also}."


def check_rows(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """Findings for ``--json``; a fix only where there is something to mend."""
    return [
        {
            "name": check.name,
            "host": check.host,
            "ok": check.ok,
            "warning": check.warning,
            "detail": check.detail,
            "fix": None if check.ok and not check.warning else check.fix,
            "code": check.code,
        }
        for check in checks
    ]


def moved_lines(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """What the lock file would hold instead, as ``lockfile.moved`` gives it."""

    def short(value: str) -> str:
        return value.removeprefix("sha256:")[:12]

    lines: list[str] = []
    for name, old, new, ref in rows:
        asked = short(ref) if new == ref else ref
        lines += wrap(f"{name}: {short(old)} → {short(new)} ({asked})", "  locked    ", " " * 14)
    return lines


def gap_lines(gap: Gap) -> list[str]:
    """What a switch stops, and for how long."""
    took = f"about {duration(gap.seconds)}, as the last start took" if gap.seconds else "until the new one is up"
    rows = wrap(f"Release {gap.stops} serves. It is stopped for {gap.starts}: nobody is answered {took}.", "", "  ")
    rows += wrap(BEFOREHAND, "  ", "    ")
    return rows + [line for row in gap.differences for line in wrap(row, "  ", "    ")]


class Waiting:
    """A line of one lane that waits for a moment: its task may be skipped everywhere."""

    def __init__(self) -> None:
        self.last: tuple[str, str] = ("", "")
        self._text: str | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def hold(self, text: str | None) -> None:
        """Let a line wait in the place of the one before."""
        with self._lock:
            self._text = text
            if self._timer:
                self._timer.cancel()
            self._timer = threading.Timer(HOLD_SECONDS, self._late) if text else None
            if self._timer:
                self._timer.daemon = True
                self._timer.start()

    def _late(self) -> None:
        # A thread of its own: that nobody reads us any more is for the run to notice, at its next line.
        with contextlib.suppress(OSError):
            self.release()

    def release(self) -> None:
        """Say the line that waits."""
        with self._lock:
            text, self._text = self._text, None
        if text:
            say(text)


class Progress:
    """Ansible's events as lines: a line when a task begins, a line for each host that fails. A context manager.

    A task's line waits for a moment: Ansible begins a task on every host before it knows that it is skipped there.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._bar: tuple[str, int] = ("", -1)
        self._lanes: dict[str, Waiting] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """A line that still waits is not said: its task did nothing."""
        for lane in self._lanes.values():
            lane.hold(None)

    def elapsed(self) -> str:
        """Seconds since the start, in a column."""
        return f"{time.monotonic() - self._start:5.0f}s"

    def event(self, event: Event) -> None:
        """Take one event."""
        lane = self._lanes.setdefault(event.lane, Waiting())
        if event.kind == "task" and not event.task.startswith("Validating"):
            now = (event.step, event.task)
            if now != lane.last:
                lane.last = now
                lane.hold(self.line(event.step, event.task))
        elif event.kind in ("ok", "changed"):
            lane.release()
        elif event.kind in ("failed", "unreachable"):
            lane.release()
            say(self.line(event.step, f"{event.host}: {event.kind}: {event.task}"))

    def line(self, step: str, text: str) -> str:
        """Seconds, step and what is done; long ones in more than one row."""
        return "\n".join(wrap(f"{step:<9} {text}", f"{self.elapsed()}  ", " " * 18))

    def bar(self, what: str, done: int, total: int) -> None:
        """A bar, as a line of its own each time it moves."""
        if (what, done) == self._bar:
            return
        self._bar = (what, done)
        filled = 20 * done // max(total, 1)
        say(f"{self.elapsed()}  {what} [{'#' * filled}{'.' * (20 - filled)}] {done}/{total}")
