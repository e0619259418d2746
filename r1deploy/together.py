"""Work at several places at once, where an error at one of them loses nothing of the others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from r1deploy.errors import R1Error

Key = TypeVar("Key")
T = TypeVar("T")


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
