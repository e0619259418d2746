"""Copy the checkpoint of the host that offers it, with rsync.

A file has its name only when it is whole; one whose copy was interrupted waits in a folder of its own, from which the
next run goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Mapping, NoReturn, Sequence

from .destination import alone, length_of
from .saying import Refusal
from .watching import Measure, watched

PARTIAL = ".r1deploy-partial"
ARGV = ("rsync", "-rlt", f"--partial-dir={PARTIAL}", "--timeout=60", "--contimeout=15", "--exclude=/.*")
UNREACHABLE = re.compile("Connection refused|timeout|timed out|No route")


def fetch(request: Mapping[str, Any]) -> dict[str, Any]:
    """Copy; with ``names`` only those, whatever their size and time say. Raises Refusal."""
    path, names = request["path"], request["names"]
    with alone(path):
        os.makedirs(path, exist_ok=True)
        some = ["--ignore-times", "--files-from=-", "--from0"] if names else []
        source = f"rsync://r1deploy@{request['address']}:{request['port']}/weights/"
        sizes = request["sizes"]
        measure = Measure(lambda: received(path, sizes), sum(sizes.values()))
        stdin = b"".join(name.encode() + b"\0" for name in names or ())
        argv = [*ARGV, *some, source, path + "/"]
        code, tail = watched(argv, {"RSYNC_PASSWORD": request["password"]}, measure, stdin)
    if code != 0:
        refuse(code, tail, f"{request['address']}:{request['port']}")
    return {}


def received(path: str, sizes: Mapping[str, int]) -> int:
    """Bytes of those files that are here, whole or in part."""
    return sum(received_of(path, name, length) for name, length in sizes.items())


def received_of(path: str, name: str, length: int) -> int:
    """Bytes of a file: under its name, in the folder of interrupted ones, or under the name that rsync writes to."""
    folder, base = os.path.split(os.path.join(path, name))
    for place in (os.path.join(folder, base), os.path.join(folder, PARTIAL, base)):
        size = length_of(place)
        if size is not None:
            return min(size, length)
    arrived = 0
    # The folder may not be there yet, and rsync renames its file when that is whole.
    with contextlib.suppress(OSError):
        for row in os.scandir(folder):
            if row.name.startswith(f".{base}."):
                arrived += row.stat().st_size
    return arrived


def refuse(code: int, tail: Sequence[str], place: str) -> NoReturn:
    """Raises Refusal with the cause. In: rsync's exit code and last lines, where the checkpoint is offered."""
    text = "\n".join(tail)
    if "No space left" in text:
        raise Refusal("DISK_FULL", "its disk is full", tail)
    if UNREACHABLE.search(text):
        raise Refusal("PEER_UNREACHABLE", f"it cannot reach {place}, where the checkpoint is offered", tail)
    raise Refusal("WEIGHTS_COPY_FAILED", f"rsync ends with code {code}", tail)
