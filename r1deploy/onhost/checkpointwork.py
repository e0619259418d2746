"""What ``r1deploy weights`` does on a host: look, hash, pull from a hub; the relay brings files to other hosts.

The hub's client is a program of its own. Each answer is a marked line of JSON (``saying``). When nobody
reads them any more (the controller is gone) writing fails, and the work ends with it.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Callable

from .answering import Answer, Order, answer_once
from .destination import free_bytes, sizes_below, there
from .hashing import sums_of
from .hub import pull
from .plainfiles import read_bytes
from .saying import Refusal
from .shards import look_checkpoint, shards_of
from .sums import LISTING, content_files, parse_sums

SUMS_LIMIT = 16 << 20


def look(request: Order) -> Answer:
    """The checkpoint by its headers, what is free, and whether the hub's client is here."""
    path = request["path"]
    return {
        "weights": look_checkpoint(path),
        "free": free_bytes(path),
        "sizes": sizes_below(path),
        "client": os.path.isdir(request["client"]) if request.get("client") else None,
    }


def mark(request: Order) -> Answer:
    """Leave a file of random content beside the checkpoint; where it is seen too, the folder is shared."""
    name = os.path.join(there(request["path"]), f".r1deploy-{request['token']}")
    try:
        with open(name, "x", encoding="utf-8") as stream:
            stream.write(request["content"])
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return {"marked": None, "why": str(error)}
    return {"marked": name}


def seen(request: Order) -> Answer:
    """Whether the file that another host left is here, with its content."""
    try:
        with open(request["marked"], encoding="utf-8") as stream:
            return {"seen": stream.read() == request["content"]}
    except OSError:
        return {"seen": False}


def unmark(request: Order) -> Answer:
    """Remove the file again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(request["marked"])
    return {}


def verify(request: Order) -> Answer:
    """Headers first; then sha256 of every file, on all cores, against the sums that are ordered or lie there."""
    path = request["path"]
    headers = look_checkpoint(path)
    answer: Answer = {
        "weights": headers, "sums": {}, "differ": [], "absent": [], "unlisted": [], "hashed": 0, "seconds": 0,
    }  # fmt: skip
    if not headers["exists"] or headers["missing"] or headers["bad"] or not headers["shards"]:
        return answer
    wanted, answer["source"] = request.get("sums"), request.get("source")
    if wanted is None and os.path.exists(os.path.join(path, LISTING)):
        wanted, answer["source"] = listed_sums(path), LISTING
    if wanted is None and not request["hash"]:
        return answer
    beside = {name for name in wanted or {} if os.path.isfile(os.path.join(path, name))}
    names = sorted({*content_files(path), *beside})
    began = time.time()
    sums, answer["hashed"] = sums_of(path, names, request["record"])
    answer["sums"], answer["seconds"] = sums, round(time.time() - began, 1)
    if wanted is not None:
        answer["absent"] = sorted(set(wanted) - set(names))
        answer["differ"] = [name for name in names if name in wanted and wanted[name] != sums[name]]
        answer["unlisted"] = sorted(name for name in shards_of(path) if name not in wanted)
    return answer


def listed_sums(path: str) -> dict[str, str]:
    """The sums that lie beside the files. Raises Refusal where the list is none, OSError."""
    listing = os.path.join(path, LISTING)
    try:
        return parse_sums(read_bytes(listing, SUMS_LIMIT).decode("utf-8"))
    except ValueError as error:
        raise Refusal("MANIFEST_INVALID", f"{listing}: {error}") from None


OPS: dict[str, Callable[[Order], Answer]] = {
    "look": look,
    "mark": mark,
    "seen": seen,
    "unmark": unmark,
    "verify": verify,
    "pull": pull,
}


def main(text: str) -> int:
    """Do what the request asks for, and answer once; the exit code."""
    return answer_once(OPS, text)
