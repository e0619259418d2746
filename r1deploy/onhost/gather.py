"""The frame of the probe: parts that fail one by one, one time for all, one size for the whole answer.

The parts run in a process of their own, which is ended when the time is over: a file system that does not answer
would keep a thread, and with it the connection, for ever. Each part is written as soon as it is found.
"""

import json
import os
import select
import signal
import threading
import time


def gather(jobs, seconds, limit):
    """(``{part: value}``, ``{part: why it is not there}``).

    In: ``(names, job)`` rows; a job yields ``(name, value)`` for its names, one by one. It may raise anything: then
    the rest of its names has that as the reason.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(jobs, writing, limit)
    os.close(writing)
    names = [name for row in jobs for name in row[0]]
    found, problems = {}, {}
    ending = _read(reading, time.monotonic() + seconds, limit, found, problems)
    os.close(reading)
    try:
        os.killpg(child, signal.SIGKILL)
    except OSError:
        pass
    # Not waited for: a process that hangs in the kernel would not even notice the signal.
    os.waitpid(child, os.WNOHANG)
    for name in names:
        if name not in found and name not in problems:
            problems[name] = ending or "no answer in %d s" % seconds
    return found, problems


def _read(reading, until, limit, found, problems):
    """Take the parts as they come; why there are no more, where that is not the time."""
    data = b""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            return None
        block = os.read(reading, 1 << 16)
        if not block:
            return "the probe ended early"
        data += block
        limit -= len(block)
        if limit < 0:
            return "the answers are longer than the probe may say"
        *lines, data = data.split(b"\n")
        for line in lines:
            name, value, problem = json.loads(line.decode("ascii"))
            if problem is None:
                found[name] = value
            else:
                problems[name] = problem


def _work(jobs, writing, limit):
    """The child: all jobs at once, each in a thread. It does not return."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            # The connection ends with our parent, whatever becomes of us.
            os.dup2(null, handle)
        lock = threading.Lock()
        threads = [threading.Thread(target=_do, args=(names, job, writing, lock, limit)) for names, job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = 0
    finally:
        os._exit(code)


def _do(names, job, writing, lock, limit):
    """One job: each of its parts, then the reason for those that are not there."""
    left = list(names)

    def answer(name, value, problem):
        line = json.dumps([name, value, problem]).encode("ascii") + b"\n"
        if len(line) > limit // 2:
            line = json.dumps([name, None, "%d bytes are more than it may say" % len(line)]).encode("ascii") + b"\n"
        left.remove(name)
        with lock:
            while line:
                line = line[os.write(writing, line) :]

    try:
        for name, value in job():
            answer(name, whole(value), None)
        why = "nothing was said"
    except Exception as error:  # any: the other parts have nothing to do with it
        why = "%s: %s" % (type(error).__name__, error)
    for name in list(left):
        answer(name, None, whole(why[:300]))


def whole(value):
    """A value of JSON's types without halves of characters, as names of files may hold them."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {whole(key): whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(item) for item in value]
    return value
