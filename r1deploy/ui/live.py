"""Progress on a terminal: a row per host with its step, time and last line, a bar below; else plain lines."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from r1deploy.planning.steps import STEPS
from r1deploy.ui import lines
from r1deploy.ui.terminal import show, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live

    from r1deploy.ansible.events import Event

HOST_COLUMNS, BAR_COLUMNS = 24, 30
TICKS_PER_SECOND = 4
WATCH_SECONDS = 3
# A host, how many others there are, the bar.
LEAST_LINES = 3
# The order in which hosts get a line where not all fit.
STATES = ("failed", "busy", "ok")


def progress() -> lines.Progress:
    """What shows a run: live on a terminal that can move its cursor, else plain lines. Use it in a ``with``."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Table()
    return lines.Progress()


@dataclass
class Row:
    """One host: what it does or did last, and for how long."""

    step: str
    text: str
    began: float
    ended: float | None = None
    style: str = ""

    def seconds(self) -> float:
        """Time in the present step; it stands still once the host is done."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def state(self) -> str:
        """One of ``STATES``: a word, for a colour alone tells some people nothing."""
        return "failed" if self.style else "busy" if self.ended is None else "ok"

    @property
    def colour(self) -> str:
        """How the row is drawn."""
        return self.style or ("" if self.ended is None else "dim")


@dataclass
class Table(lines.Progress):
    """The same as ``lines.Progress``, drawn in place.

    Nothing is drawn before the first event: until then the terminal belongs to questions.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    loading: tuple[str, int, int] | None = None
    over: bool = False
    former: dict[str, Row | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._live: Live | None = None

    def __exit__(self, *error: object) -> None:
        """Leave the picture of how it ended, and the terminal as it was."""
        now = time.monotonic()
        for row in self.rows.values():
            row.ended = row.ended or now
        if error[:1] == (None,):
            self.loading, self.over = None, True
        if self._live:
            self._live.stop()
            self._live = None

    def event(self, event: Event) -> None:
        """Take one event."""
        if event.host is None or event.task.startswith("Validating"):
            return
        now = time.monotonic()
        row = self.rows.get(event.host)
        if event.kind == "skipped":
            self._take_back(event.host, event.task)
            return
        if event.kind == "start":
            # Ansible begins a task on a host before it knows that it is skipped there.
            self.former[event.host] = replace(row) if row else None
        if row is None or row.step != event.step:
            row = self.rows[event.host] = Row(event.step, event.task, now)
        if event.kind in ("failed", "unreachable"):
            row.text, row.ended, row.style = f"{event.kind}: {event.task}", now, "bold red"
            lines.say(self.line(event.step, f"{event.host}: {row.text}"))
        elif row.style == "":
            row.text, row.ended = event.task, None if event.kind == "start" else now
        self._draw()

    def _take_back(self, host: str, task: str) -> None:
        """A host shows what it did last, not what it skipped."""
        row, former = self.rows.get(host), self.former.get(host)
        if row is None or row.text != task or row.style:
            return
        if former:
            self.rows[host] = former
        else:
            del self.rows[host]
        self._draw()

    def bar(self, what: str, done: int, total: int) -> None:
        """Take how far something is; what is whole gives way to the step."""
        self.loading = (what, done, total) if done < total else None
        self._draw()

    def _draw(self) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            # Standard output stays what it is: it may be a pipe that waits for JSON.
            self._live = Live(
                console=Console(stderr=True, highlight=False),
                get_renderable=self.picture,
                refresh_per_second=TICKS_PER_SECOND,
                redirect_stdout=False,
            )
            self._live.start()

    def picture(self) -> RenderableType:
        """The table and the bar as they are now, one line a host, never more lines than the screen has."""
        return Picture(self)

    def drawn(self, room: int) -> list[tuple[str, str]]:
        """Lines with their styles: hosts, how many have no line, and last how far all of it is. In: how many lines."""
        rows = list(self.rows.items())  # it is drawn by a thread of its own, while hosts come
        kept = fitting(rows, room - 1)
        # Text, no rich table: that one gives up whole columns where the last is long.
        wide = min(max((len(host) for host, _ in kept), default=0), HOST_COLUMNS)
        hosts = [
            (f"{host[:wide]:<{wide}}  {row.step:<9}{row.seconds():5.0f}s  {row.text}", row.colour) for host, row in kept
        ]
        names = {host for host, _ in kept}
        left = Counter(row.state for host, row in rows if host not in names)
        if left:
            hosts.append((", ".join(f"+{left[state]} {state}" for state in STATES if left[state]), ""))
        return [*hosts, (self.foot(row for _, row in rows), "")]

    def foot(self, rows: Iterable[Row]) -> str:
        """The last line: the time, the step, how many hosts failed, the bar."""
        states = list(rows)
        broken = sum(row.state == "failed" for row in states)
        failed = f"{broken} failed" if broken else ""
        bar = bar_text(*self.loading) if self.loading else "done" if self.over else ""
        step = "" if self.loading or self.over else step_of(states)
        return "  ".join([self.elapsed(), *(part for part in (step, failed, bar) if part)]).strip()


class Picture:
    """A table as it is drawn on a console: only then its size is known."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One line of text each, cut at the width."""
        from rich.text import Text

        for line, style in self._table.drawn(max(options.size.height - 1, LEAST_LINES)):
            yield Text(shown(line), style, no_wrap=True, overflow="ellipsis")


def fitting(rows: list[tuple[str, Row]], room: int) -> list[tuple[str, Row]]:
    """The hosts that get a line: all of them where they fit, else those that failed, then those at work.

    In: how many lines there are for hosts, and for the line that counts the others.
    """
    if len(rows) <= room:
        return rows
    first = sorted(rows, key=lambda row: STATES.index(row[1].state))
    return [row for row in first[: room - 1] if row[1].state != "ok"]


def step_of(rows: Iterable[Row]) -> str:
    """``step 5 of 9``: the first one at which a host is at work, else the last one that a host came to."""
    numbers = [(row.state != "busy", STEPS.index(row.step) + 1) for row in rows if row.step in STEPS]
    busy = [number for idle, number in numbers if not idle]
    at = min(busy) if busy else max((number for _, number in numbers), default=0)
    return f"step {at} of {len(STEPS)}" if at else ""


def bar_text(what: str, done: int, total: int) -> str:
    """``loading weights ━━━━━━━───────── 6/16``."""
    filled = min(BAR_COLUMNS, BAR_COLUMNS * done // max(total, 1))
    return f"{what} {'━' * filled}{'─' * (BAR_COLUMNS - filled)} {done}/{total}"


@contextlib.contextmanager
def ended_by_user() -> Iterator[None]:
    """What is shown until Ctrl-C ends well by Ctrl-C, whatever it is doing at that moment."""
    from r1deploy.signals import Stopped

    try:
        yield
    except Stopped as stop:
        if stop.number != signal.SIGINT:
            raise


def on_screen(rows: list[str], room: int) -> list[str]:
    """The first rows, and how many more there are, in at most ``room`` lines."""
    if len(rows) <= room:
        return rows
    kept = max(room - 1, 0)
    return [*rows[:kept], f"… {len(rows) - kept} lines more"]


def watched(look: Callable[[], list[str]]) -> None:
    """Show what ``look`` returns, again and again until Ctrl-C: in place on a terminal, else each time it differs.

    Raises what ``look`` raises at the first look; later ones are shown, for a watch outlives a host that is away.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from r1deploy.errors import R1Error

    console = Console(highlight=False)
    rows = look()
    terminal = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with ended_by_user(), terminal or contextlib.nullcontext():
        before: list[str] = []
        while True:
            if terminal:
                foot = f"{time.strftime('%H:%M:%S')}, again in {WATCH_SECONDS} s; Ctrl-C ends it"
                kept = on_screen(rows, console.size.height - 3)
                drawn = Text(shown("\n".join([*kept, "", foot])), no_wrap=True, overflow="ellipsis")
                terminal.update(drawn, refresh=True)
            elif rows != before:
                show(*rows, "")
            before = rows
            time.sleep(WATCH_SECONDS)
            try:
                rows = look()
            except R1Error as error:
                rows = [f"{error.code}: {error.message}"]
