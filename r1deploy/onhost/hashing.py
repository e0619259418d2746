"""sha256 of a checkpoint's files, on all cores; a file that did not change since the last time is not read again."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import threading
from typing import Any, Dict, List, Sequence

from .plainfiles import open_plain
from .saying import TICK, Refusal, say
from .shards import read_json
from .sums import known_sums, stamp

BLOCK = 4 << 20
# Of each file its stamp, then its sha256.
Rows = Dict[str, List[Any]]


def sums_of(path: str, names: Sequence[str], record: str) -> tuple[dict[str, str], int]:
    """(``{name: sha256}``, bytes that had to be read). Raises Refusal, OSError. In: where the sums are remembered."""
    known = known_sums(read_json(record), path, names)
    rows: Rows = {name: [*stamp(os.path.join(path, name)), known[name]] for name in known}
    sizes = {name: os.stat(os.path.join(path, name)).st_size for name in names if name not in known}
    total = sum(sizes.values())
    # The largest first: at the end no core waits for another one.
    rows.update(Hashing(path).rows(sorted(sizes, key=lambda name: -sizes[name]), total))
    if sizes:
        remember(record, path, rows)
    return {name: rows[name][-1] for name in names}, total


def remember(record: str, path: str, rows: Rows) -> None:
    """Write the sums down, whole or not at all."""
    os.makedirs(os.path.dirname(record), exist_ok=True)
    partial = record + ".new"
    with open(partial, "w", encoding="utf-8") as stream:
        json.dump({"version": 1, "path": path, "files": rows}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, record)


class Hashing:
    """Files of a folder being read, a thread a core."""

    def __init__(self, path: str) -> None:
        self._path, self._done = path, 0
        self._lock, self._stop = threading.Lock(), threading.Event()

    def rows(self, names: Sequence[str], total: int) -> Rows:
        """Read them all, and say how far it is. Raises Refusal, OSError."""
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            jobs = {name: pool.submit(self._row, name) for name in names}
            try:
                waiting = True
                while waiting:
                    waiting = bool(concurrent.futures.wait(jobs.values(), timeout=TICK).not_done)
                    say("progress", done=self._done, total=total)
                return {name: job.result() for name, job in jobs.items()}
            except BaseException:
                self._stop.set()
                raise

    def _row(self, name: str) -> list[Any]:
        """The stamp and the sha256 of a file. Raises Refusal where it changes meanwhile."""
        full = os.path.join(self._path, name)
        before, digest = stamp(full), hashlib.sha256()
        with open_plain(full) as stream:
            while not self._stop.is_set():
                block = stream.read(BLOCK)
                if not block:
                    break
                digest.update(block)
                with self._lock:
                    self._done += len(block)
        if stamp(full) != before:
            raise Refusal("WEIGHTS_BUSY", f"{full} changed while it was read")
        return [*before, digest.hexdigest()]
