"""The last lines of log files, and what comes then: ``r1deploy logs`` on a host.

Files may not be there yet, appear later, be cut or replaced. It ends with the connection, also where nothing is
printed: ``tail -F`` would not notice.
"""

from __future__ import annotations

import glob
import json
import os
import select
import stat
import time

TICK = 0.5
BLOCK = 1 << 20


def opened(path: str) -> int | None:
    """An open regular file, or None."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    return None


def start_of(handle: int, count: int) -> int:
    """Where the last ``count`` lines begin; a last line without an end counts."""
    place = size = os.fstat(handle).st_size
    left = count + 1 if size and os.pread(handle, 1, size - 1) == b"\n" else count
    while place > 0 and left > 0:
        begin = max(0, place - BLOCK)
        block = os.pread(handle, place - begin, begin)
        at = len(block)
        while left > 0:
            at = block.rfind(b"\n", 0, at)
            if at < 0:
                break
            left -= 1
            if left == 0:
                return begin + at + 1
        place = begin
    return size if count <= 0 else 0


def copy(handle: int, place: int) -> int:
    """Print from a place to the end; the new place."""
    while True:
        data = os.pread(handle, BLOCK, place)
        if not data:
            return place
        place += len(data)
        while data:
            data = data[os.write(1, data) :]


def gone() -> bool:
    """Whether nobody reads any more."""
    waiting = select.poll()
    waiting.register(1, 0)
    return bool(waiting.poll(0))


def main(text: str) -> int:
    """Print, and follow. In: ``pattern``, ``count``, ``follow`` as JSON."""
    order = json.loads(text)
    places: dict[str, tuple[int, int]] = {}
    first = True
    try:
        while not gone():
            for path in sorted(glob.glob(order["pattern"])):
                handle = opened(path)
                if handle is None:
                    continue
                try:
                    status = os.fstat(handle)
                    place = start_of(handle, order["count"]) if first else 0
                    if path in places and places[path][0] == status.st_ino and places[path][1] <= status.st_size:
                        place = places[path][1]
                    places[path] = (status.st_ino, copy(handle, place))
                finally:
                    os.close(handle)
            if not order["follow"]:
                return 0
            first = False
            time.sleep(TICK)
    except BrokenPipeError:
        pass  # nobody reads any more
    return 0
