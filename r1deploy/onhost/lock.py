"""The cluster's lock, held on the head by this process as long as its owner is heard.

The kernel's lock on the file is the truth;
what stands in the file is for people. The owner sends a line a few seconds apart
on standard input (what it is doing); silence or the end of the connection frees
the lock, so that nobody has to clean up after a dead owner.

Prints marked lines of JSON. Exit codes: 0 freed by its owner, 3 held by somebody else,
4 the owner fell silent, 5 ended by ``release``, 6 the connection was cut.
"""

import json
import os
import select
import signal
import sys
import time

from .files import read_bytes
from .private import locked

# An owner that was killed has processes, and somebody ends those within a moment: until then the lock is not free.
GRACE_SECONDS = 2.0
MARK = "r1:"


def start_of(pid):
    """Start tick of a process: with the pid it names one process for ever; None where there is none."""
    if type(pid) is not int:
        return None
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as stream:
            return stream.read().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def read(path):
    """What the lock file says, or None."""
    try:
        # A shorter text may have been written over a longer one: only the first document counts.
        found = json.JSONDecoder().raw_decode(read_bytes(path).decode("utf-8", "replace"))[0]
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_held(path):
    """Whether the process lives that a lock file names."""
    info = read(path) or {}
    return info.get("start") is not None and start_of(info.get("pid")) == info["start"]


def write(handle, info):
    """Replace what the file says."""
    data = json.dumps(info).encode()
    os.pwrite(handle, data, 0)
    os.ftruncate(handle, len(data))


def take(path):
    """An open, locked lock file, or None where somebody else holds it."""
    return locked(path, is_held)


def answer(document):
    """One line to the owner."""
    sys.stdout.write(MARK + json.dumps(document) + "\n")
    sys.stdout.flush()


def hold(path, order):
    """Take the lock and keep it while the owner is heard."""
    until = time.monotonic() + GRACE_SECONDS + 1
    handle = take(path)
    while handle is None and (read(path) or {}).get("ended") and time.monotonic() < until:
        time.sleep(0.1)
        handle = take(path)
    if handle is None:
        answer({"held": read(path)})
        return 3
    now = time.time()
    info = dict(order["info"], since=now, beat=now, pid=os.getpid(), start=start_of(os.getpid()))
    write(handle, info)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(5))
    answer({"ok": True})
    last = time.monotonic()
    said = b""
    while not ended:
        left = last + order["silence"] - time.monotonic()
        # In short rounds: a signal that comes just before select() would be seen a whole silence later.
        ready = select.select([0], [], [], max(0.0, min(left, 1.0)))[0]
        if ready:
            data = os.read(0, 65536)
            if not data:
                if not said.endswith(b"done\n"):
                    write(handle, dict(info, ended=True))
                    time.sleep(GRACE_SECONDS)
                ended.append(0 if said.endswith(b"done\n") else 6)
                break
            said = (said + data)[-4096:]
            last = time.monotonic()
            lines = said.decode("utf-8", "replace").split("\n")
            info.update(beat=time.time(), doing=lines[-2] if len(lines) > 1 else None)
            write(handle, info)
            # One answer a line, so that the owner knows for sure that it still holds the lock.
            for _ in range(data.count(b"\n")):
                answer({"ok": True})
        elif left <= 0:
            ended.append(4)
    os.unlink(path)
    return ended[0]


def release(path):
    """End the process that holds the lock, and nothing else."""
    info = read(path)
    if info is None or not is_held(path):
        answer({"released": None})
        return 0
    os.kill(info["pid"], signal.SIGTERM)
    until = time.monotonic() + 10
    while start_of(info["pid"]) == info["start"] and os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.1)
    answer({"released": info})
    return 0


def main(text):
    """Hold or release; returns the exit code. In: the order as JSON, ``op`` in it."""
    order = json.loads(text)
    return hold(order["path"], order) if order["op"] == "hold" else release(order["path"])
