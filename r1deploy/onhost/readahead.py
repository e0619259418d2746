"""Read the checkpoint's shards into the page cache, before the engine that serves is stopped.

It takes what nobody else asks for: processor and disk only where they are idle, and of the memory what the kernel says
is available, less a tenth of all. What the cache holds already is not read again. Answers are marked lines of JSON
(``saying``); when nobody reads them any more (the controller is gone) writing fails, and the work ends with it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import json
import mmap
import os
import platform
import threading
import time
from typing import Any, Iterable, Iterator, Mapping, Sequence, Tuple

from .ownhost import look_memory
from .plainfiles import open_plain
from .saying import TICK, say
from .shards import shards_of

# What is looked up and read at once.
BLOCK = 8 << 20
READERS = 4
# Part of all memory that stays free for those who are at work.
KEPT = 0.1
# ioprio_set(2): its number by machine, and the class that waits for everybody else.
IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "loongarch64": 30, "riscv64": 30}
IDLE = 3 << 13
# (path, offset, length)
Piece = Tuple[str, int, int]
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong,
]  # fmt: skip
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_FAILED = ctypes.c_void_p(-1).value


def files_of(folder: str) -> list[str]:
    """Paths of the shards that are there, in the order in which the engine reads them; each file once."""
    known, paths = set(), []
    for name in sorted(shards_of(folder)):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            info = os.stat(path)
            if (info.st_dev, info.st_ino) not in known:
                known.add((info.st_dev, info.st_ino))
                paths.append(path)
    return paths


def absent(path: str) -> Iterator[Piece]:
    """The blocks of a file that the page cache does not hold whole. Raises OSError."""
    with open_plain(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        for offset in range(0, size, BLOCK):
            length = min(BLOCK, size - offset)
            if not cached(stream.fileno(), offset, length):
                yield path, offset, length


def cached(handle: int, offset: int, length: int) -> bool:
    """Whether all pages of a part of a file are in the page cache; not, where the kernel does not tell."""
    place = _LIBC.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, handle, offset)
    if place == _FAILED:
        return False
    try:
        pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        told = _LIBC.mincore(place, length, pages) == 0
        return told and b"\0" not in pages.raw
    finally:
        _LIBC.munmap(place, length)


def step_aside() -> None:
    """Processor and disk only where nobody else wants them; threads that begin later are the same."""
    with contextlib.suppress(OSError):
        os.nice(19)
    number = IOPRIO_SET.get(platform.machine())
    if number is not None:
        _LIBC.syscall(number, 1, 0, IDLE)


def room_for(there: int) -> int:
    """Bytes that may be read, with so many in the page cache already: those are in what is available."""
    memory = look_memory()
    return max(0, int(memory["available_mib"] - memory["total_mib"] * KEPT) * (1 << 20) - there)


def within(pieces: Sequence[Piece], room: int) -> list[Piece]:
    """The first pieces, as many as there is room for."""
    taken: list[Piece] = []
    for piece in pieces:
        room -= piece[2]
        if room < 0:
            break
        taken.append(piece)
    return taken


class Reading:
    """Pieces of files being read, some at a time; ``done`` bytes of them, and ``why`` it ended before all were."""

    def __init__(self, pieces: Iterable[Piece], seconds: float) -> None:
        self.done, self.why = 0, ""
        self._end = time.monotonic() + seconds
        self._pieces, self._lock, self._stop = iter(pieces), threading.Lock(), threading.Event()

    def all(self, before: int, total: int) -> None:
        """Read them, and say how far it is. Raises OSError.

        In: bytes that were in the page cache before, and bytes of all files.
        """
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            readers = [pool.submit(self._read) for _ in range(READERS)]
            try:
                while concurrent.futures.wait(readers, timeout=TICK).not_done and not self._over():
                    say("progress", done=before + self.done, total=total)
            finally:
                self._stop.set()
        for reader in readers:
            reader.result()

    def _over(self) -> bool:
        if not room_for(0):
            self.why = "memory"
        elif time.monotonic() > self._end:
            self.why = "time"
        return bool(self.why)

    def _read(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                path, offset, length = next(self._pieces, ("", 0, 0))
            if not length:
                return
            with open_plain(path) as stream:
                stream.seek(offset)
                count = len(stream.read(length))
            with self._lock:
                self.done += count


def read_ahead(folder: str, seconds: float) -> dict[str, Any]:
    """Read what there is room and time for.

    ``total`` bytes of the shards, ``before`` those in the page cache at the start, ``read`` those that came; ``why``
    "memory" or "time" where not all came. Raises OSError.
    """
    paths = files_of(folder)
    total = sum(os.stat(path).st_size for path in paths)
    pieces = [piece for path in paths for piece in absent(path)]
    before = total - sum(length for _, _, length in pieces)
    taken = within(pieces, room_for(before))
    reading = Reading(taken, seconds)
    reading.all(before, total)
    why = reading.why or ("memory" if len(taken) < len(pieces) else "")
    return {"total": total, "before": before, "read": reading.done, "why": why}


def main(text: str) -> int:
    """Do what the order asks for: ``folder``, ``seconds``; and answer once. The exit code."""
    order: Mapping[str, Any] = json.loads(text)
    step_aside()
    try:
        say("done", **read_ahead(order["folder"], order["seconds"]))
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:
        say("error", message=str(error))
        return 1
    return 0
