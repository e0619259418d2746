"""What ends r1deploy from outside: Ctrl-C, SIGTERM, a terminal that is closed (SIGHUP). One way for all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Any, ClassVar

from r1deploy.errors import Interrupted

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Stopped(BaseException):
    """A signal ended us. It is no R1Error: what goes on after an error does not go on after this.

    ``goes_on`` says what still works on the hosts, ``fix`` what to do about it: whoever knows writes it there.
    ``at_once`` is true after the second signal: then nothing is done any more that may take long.
    """

    def __init__(self, number: int, *, at_once: bool = False) -> None:
        super().__init__(number)
        self.number, self.at_once = number, at_once
        self.goes_on = ""
        self.fix: str | None = None

    def error(self) -> Interrupted:
        """What is said to the user, with the exit code."""
        by = f"stopped by {NAMES[signal.Signals(self.number)]}"
        return Interrupted("INTERRUPTED", f"{by}; {self.goes_on}" if self.goes_on else by, fix=self.fix)


def goes_on(working: Collection[str]) -> str:
    """What a stopped run leaves: Ansible is gone, a module on a host or a job in a container is not."""
    return f"work may go on for a while on {', '.join(sorted(working))}" if working else ""


class Interrupts:
    """While it is open a signal raises Stopped; with ``first`` the first one calls that, and the second raises.

    May be nested. What is ignored stays so: ``nohup`` means it. ``number`` is the signal that came first. In another
    thread than the main one it does nothing: signals come to that one only, which ends the others.
    """

    # Of the process, not of one of these: signals so far, those that wait for ``later``, our terminals.
    seen: ClassVar[list[int]] = []
    waiting: ClassVar[list[int]] = []
    shut: ClassVar[int] = 0
    depth: ClassVar[int] = 0
    terminals: ClassVar[list[int]] = []

    def __init__(self, first: Callable[[], None] | None = None) -> None:
        self._first = first
        self._before: dict[int, Any] = {}
        self.number: int | None = None

    def __enter__(self) -> Interrupts:
        if not in_main_thread():
            return self
        if Interrupts.depth == 0:
            Interrupts.seen.clear()
            Interrupts.terminals = [handle for handle in range(3) if is_terminal(handle)]
        Interrupts.depth += 1
        for number in NAMES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if not in_main_thread():
            return
        Interrupts.depth -= 1
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def raise_stopped(self) -> None:
        """Raise Stopped where a signal came."""
        if self.number is not None:
            raise Stopped(self.number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_terminals()
            # A terminal that closes says so more than once, and nobody is impatient then.
            if Interrupts.seen or number in Interrupts.waiting:
                return
        if Interrupts.shut:
            Interrupts.waiting.append(number)
            return
        Interrupts.seen.append(number)
        self.number = self.number or number
        again = len(Interrupts.seen) > 1
        if self._first is None or again:
            raise Stopped(number, at_once=again)
        self._first()


def in_main_thread() -> bool:
    """Whether signals come to this thread."""
    return threading.current_thread() is threading.main_thread()


def is_terminal(handle: int) -> bool:
    """Whether a descriptor is a terminal that is there."""
    try:
        return os.isatty(handle)
    except OSError:
        return False


def leave_terminals() -> None:
    """What is written from now on goes nowhere, where it went to a terminal that is gone: writing there raises."""
    gone = [handle for handle in Interrupts.terminals if not is_terminal(handle)]
    if gone:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for handle in gone:
            os.dup2(nowhere, handle)
        os.close(nowhere)


@contextlib.contextmanager
def later() -> Iterator[None]:
    """Signals wait until this is closed: for the few lines that clean up."""
    if not in_main_thread():
        yield
        return
    # Not the kernel's mask: any other thread would take the signal, and Python would handle it here all the same.
    Interrupts.shut += 1
    try:
        yield
    finally:
        Interrupts.shut -= 1
        while Interrupts.waiting and not Interrupts.shut:
            signal.raise_signal(Interrupts.waiting.pop(0))
