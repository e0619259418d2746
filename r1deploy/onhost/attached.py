"""A command that ends with the connection: ``r1deploy exec`` on a host.

The end of a connection reaches no process that is silent, and what runs in a container is no child of ``docker exec``.
So this waits for both, the command's end and the connection's; after the latter it ends whatever carries the mark that
the command was started with in its environment, and nothing else.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
from typing import IO

NAME = "R1DEPLOY_EXEC"
POLITE_SECONDS = 2.0


def carriers(mark: bytes) -> list[int]:
    """Processes with the mark in their environment."""
    pids = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(os.path.join("/proc", name, "environ"), "rb") as stream:
                    if mark in stream.read().split(b"\0"):
                        pids.append(int(name))
            except OSError:
                continue  # it ended
    return pids


def end(child: subprocess.Popen[bytes], mark: bytes) -> None:
    """End the command and what it started: politely, then at once."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + POLITE_SECONDS
        child.send_signal(number)
        # For the whole time: the engine may start it after its client is gone.
        while time.monotonic() < until:
            for pid in carriers(mark):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            time.sleep(0.2)
        if child.poll() is not None and not carriers(mark):
            return


def feed(stream: IO[bytes]) -> None:
    """Our standard input → the command's."""
    try:
        while True:
            data = os.read(0, 65536)
            if not data:
                break
            stream.write(data)
            stream.flush()
        stream.close()
    except BrokenPipeError:
        pass  # the command reads no more


def main(text: str) -> int:
    """Run the command; returns its exit code. In: ``argv``, ``token`` (the mark), ``input`` as JSON."""
    order = json.loads(text)
    mark = os.fsencode(NAME + "=" + order["token"])
    stdin = subprocess.PIPE if order["input"] else subprocess.DEVNULL
    child = subprocess.Popen(order["argv"], stdin=stdin, start_new_session=True)
    if child.stdin is not None:
        threading.Thread(target=feed, args=(child.stdin,), daemon=True).start()
    ended, ending = os.pipe()

    def wait() -> None:
        child.wait()
        os.close(ending)

    threading.Thread(target=wait, daemon=True).start()
    waiting = select.poll()
    waiting.register(ended, select.POLLIN)
    waiting.register(1, 0)  # only its end is told
    waiting.poll()
    code = child.poll()
    if code is None:
        end(child, mark)
        return 1
    return code if code >= 0 else 128 - code
