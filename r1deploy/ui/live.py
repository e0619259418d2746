"""Progress on a terminal: a row per host with its step, time and last line, a bar below; else plain lines."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from r1deploy.ui import lines
from r1deploy.ui.terminal import show, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType
    from rich.live import Live

    from r1deploy.ansible.events import Event

HOST_COLUMNS, BAR_COLUMNS = 24, 30
TICKS_PER_SECOND = 4
WATCH_SECONDS = 3


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
        """Take how far something is."""
        self.loading = (what, done, total)
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
        """The table and the bar as they are now, one line a host whatever the width."""
        from rich.console import Group
        from rich.text import Text

        # Text, no rich table: that one gives up whole columns where the last is long.
        rows = list(self.rows.items())  # it is drawn by a thread of its own, while hosts come
        wide = min(max((len(host) for host, _ in rows), default=0), HOST_COLUMNS)
        drawn = []
        for host, row in rows:
            line = f"{host[:wide]:<{wide}}  {row.step:<9}{row.seconds():5.0f}s  {row.text}"
            drawn.append((line, row.style or ("" if row.ended is None else "dim")))
        foot = bar_text(*self.loading) if self.loading else "done" if self.over else ""
        drawn.append((f"{self.elapsed()}  {foot}".strip(), ""))
        return Group(*(Text(shown(line), style, no_wrap=True, overflow="ellipsis") for line, style in drawn))


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
                drawn = Text(shown("\n".join([*rows, "", foot])), no_wrap=True, overflow="ellipsis")
                terminal.update(drawn, refresh=True)
            elif rows != before:
                show(*rows, "")
            before = rows
            time.sleep(WATCH_SECONDS)
            try:
                rows = look()
            except R1Error as error:
                rows = [f"{error.code}: {error.message}"]
