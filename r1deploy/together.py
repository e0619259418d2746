"""Work at several places at once, where an error at one of them loses nothing of the others."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from typing import TypeVar

from r1deploy.errors import R1Error
from r1deploy.signals import Stopped, goes_on, later

Key = TypeVar("Key")
T = TypeVar("T")
LOOK_SECONDS = 0.1
# More than the end of a run of Ansible takes: who waits for a file server that is gone is not waited for.
END_SECONDS = 15.0


def together(works: Mapping[Key, Callable[[], T]], at_once: int | None = None) -> dict[Key, T | R1Error]:
    """Do all of it at once, or so many at a time.

    Returns what each returned, or the error of ours that ended it, in the order of ``works``.

    Raises at once what is no R1Error, and Stopped: what still works then ends with its connection.
    """
    turns = threading.BoundedSemaphore(at_once or len(works) or 1)
    ended: queue.SimpleQueue[tuple[Key, T | BaseException]] = queue.SimpleQueue()

    def one(key: Key, work: Callable[[], T]) -> None:
        try:
            with turns:
                ended.put((key, work()))
        except BaseException as error:  # raised below, in the thread that waits
            ended.put((key, error))

    for key, work in works.items():
        # A daemon: one that is still connecting must not keep the process after Ctrl-C.
        threading.Thread(target=one, args=(key, work), daemon=True).start()
    results: dict[Key, T | R1Error] = {}
    for _ in works:
        key, result = ended.get()
        if isinstance(result, BaseException) and not isinstance(result, R1Error):
            raise result
        results[key] = result
    return {key: results[key] for key in works}


def begin(work: Callable[[], T]) -> Future[T]:
    """Work in a thread that does not keep the process; its result comes, or what it raised.

    For what leaves nothing behind where it is ended in the middle: no process, no file.
    """
    future: Future[T] = Future()

    def one() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=one, daemon=True).start()
    return future


class Ended(Exception):
    """A lane was ended with the others. In: hosts on which it was at work."""

    def __init__(self, working: Collection[str] = ()) -> None:
        super().__init__("ended with the others")
        self.working = frozenset(working)


class Lanes:
    """Works side by side that are one whole: where one fails, the others begin nothing new.

    ``failed``: one of them failed; what is at work is done to its end. ``over``: all of them end now.
    """

    def __init__(self) -> None:
        self.failed, self.over = threading.Event(), threading.Event()
        self._ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._errors: list[BaseException] = []

    def may_begin(self) -> None:
        """Raise Ended where nothing new may begin."""
        if self.failed.is_set():
            raise Ended
        self.may_go_on()

    def may_go_on(self) -> None:
        """Raise Ended where what is at work has to end."""
        if self.over.is_set():
            raise Ended

    def wait_for(self, *events: threading.Event) -> None:
        """Until other lanes have set them. Raises Ended where nothing new may begin."""
        for event in events:
            while not event.wait(LOOK_SECONDS):
                self.may_begin()
        self.may_begin()

    def run(self, works: Collection[Callable[[], None]]) -> None:
        """Do all of it, each in a thread of its own, and return when all have ended. Once only.

        Raises the first failure, the others' messages as its evidence. After a signal, and after what is no R1Error,
        all end at once; Stopped says on which hosts work may go on.
        """
        try:
            with self._threads(works) as threads:
                for _ in threads:
                    error = self._ended.get()
                    if error and not isinstance(error, R1Error | Ended):
                        raise error
        except Stopped as stop:
            stop.goes_on = goes_on({host for row in self._errors if isinstance(row, Ended) for host in row.working})
            raise
        failures = [error for error in self._errors if isinstance(error, R1Error)]
        if failures:
            first, *others = failures
            said = dict.fromkeys(str(other) for other in others if str(other) != str(first))
            first.evidence = (*first.evidence, *said)
            raise first

    @contextlib.contextmanager
    def _threads(self, works: Collection[Callable[[], None]]) -> Iterator[list[threading.Thread]]:
        """Start them. Where something is raised meanwhile they end, before it goes on."""
        threads = [threading.Thread(target=self._one, args=(work,), daemon=True) for work in works]
        try:
            for thread in threads:
                thread.start()
            yield threads
        except BaseException:
            self.over.set()
            with later():
                until = time.monotonic() + END_SECONDS
                for thread in threads:
                    if thread.ident:
                        thread.join(max(until - time.monotonic(), 0))
            raise

    def _one(self, work: Callable[[], None]) -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # raised again in the thread that waits
            error = raised
            self._errors.append(raised)
            self.failed.set()
        self._ended.put(error)
