"""HTTP and programs, asked within bounds: one time for the whole answer, so many bytes and no more."""

import http.client
import io
import os
import selectors
import signal
import socket
import subprocess
import time

LIMIT = 1 << 20


class Refused(Exception):
    """An answer that is not taken; the text says why."""


class _Stream(io.RawIOBase):
    """What comes over a socket until a moment: an answer of one byte a second has an end too."""

    def __init__(self, opened, until, limit):
        io.RawIOBase.__init__(self)
        self.opened, self.until, self.left = opened, until, limit

    def readable(self):
        return True

    def readinto(self, buffer):
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise socket.timeout("no whole answer in time")
        self.opened.settimeout(seconds)
        count = self.opened.recv_into(buffer)
        self.left -= count
        if self.left < 0:
            raise Refused("the answer is too long")
        return count


class _Bounded:
    """A connected socket as http.client wants it, whose answer is bounded."""

    def __init__(self, opened, until, limit):
        self.opened, self.until, self.limit = opened, until, limit

    def sendall(self, data):
        self.opened.settimeout(max(0.001, self.until - time.monotonic()))
        self.opened.sendall(data)

    def makefile(self, mode):
        return io.BufferedReader(_Stream(self.opened, self.until, self.limit))

    def close(self):
        """Nothing: http.client lets go of a connection before it reads the answer's body."""


def get(family, place, path, seconds, limit=LIMIT):
    """(status, body) of one GET. In: a socket's family and address; seconds for all of it.

    Raises OSError, http.client.HTTPException, Refused, ValueError.
    """
    until = time.monotonic() + seconds
    with socket.socket(family, socket.SOCK_STREAM) as opened:
        opened.settimeout(seconds)
        opened.connect(place)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = _Bounded(opened, until, limit)
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def output_of(argv, seconds, environment, limit=LIMIT):
    """(exit code, standard output, standard error) of a program. Raises OSError, Refused."""
    until = time.monotonic() + seconds
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        start_new_session=True,
    )  # fmt: skip
    said = {process.stdout: b"", process.stderr: b""}
    try:
        with selectors.DefaultSelector() as waiting:
            for stream in said:
                os.set_blocking(stream.fileno(), False)
                waiting.register(stream, selectors.EVENT_READ)
            while waiting.get_map():
                left = until - time.monotonic()
                if left <= 0:
                    raise Refused("no answer in %d s" % seconds)
                for key, _ in waiting.select(left):
                    data = os.read(key.fd, 65536)
                    if not data:
                        waiting.unregister(key.fileobj)
                    said[key.fileobj] += data
                    if len(said[key.fileobj]) > limit:
                        raise Refused("it prints more than %d bytes" % limit)
        code = process.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise Refused("no end in %d s" % seconds)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in said:
            stream.close()
    return (code, *(data.decode("utf-8", "replace") for data in said.values()))
