"""Download a checkpoint from a hub with the hub's own client, and check it against what the hub says."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import sys
import tarfile
import tempfile
from typing import Any, Dict, Iterable, List, Mapping, NoReturn, Sequence

from . import hubclient
from .destination import alone, length_of, refuse_too_much, sizes_below
from .saying import Refusal, say
from .sums import LISTING
from .watching import NO_MEASURE, Measure, watched

ATTEMPTS = 4
# What of an order the hub's client needs.
ORDER = ("hub", "repo", "revision", "path", "workers", "client")
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
NO_ROUTE = ("Connect", "resolve host", "Timeout", "timed out", "RemoteProtocol", "ReadError")
Order = Mapping[str, Any]
# A row a file: name, size, sha256, sha1; each of the last three may be None.
Files = List[Dict[str, Any]]


def pull(request: Order) -> dict[str, Any]:
    """Download; whole files stay, and one that was interrupted goes on where it ended. Raises Refusal."""
    path = request["path"]
    with alone(path):
        if request["client_bytes"]:
            unpack(request["client"], request["client_bytes"])
        listed = ask(request, "listed")
        order = dict(request, revision=listed["revision"])
        sizes = {row["name"]: row["size"] or 0 for row in listed["files"]}
        total = sum(sizes.values())
        need = sum(sizes[name] for name in unlike(path, sizes))
        refuse_too_much(path, need)
        os.makedirs(path, exist_ok=True)
        download(order, total)
        short = unlike(path, sizes)
        if short:
            raise Refusal("HUB_FAILED", f"the hub's client left out, or cut: {', '.join(short[:5])}")
        store_sums(path, sums_said(path, listed["files"]))
    return {"revision": order["revision"], "files": len(sizes), "bytes": total, "downloaded": need}


def unlike(path: str, sizes: Mapping[str, int]) -> list[str]:
    """Names of the files that are not there, or not as long as they should be."""
    return [name for name, size in sizes.items() if length_of(os.path.join(path, name)) != size]


def download(order: Order, total: int) -> None:
    """Download; a connection that breaks is begun again. Raises Refusal."""
    path = order["path"]
    measure = Measure(lambda: sum(sizes_below(path).values()), total)
    for left in reversed(range(ATTEMPTS)):
        try:
            ask(order, "got", measure)
            return
        except Refusal as error:
            if error.code != "HUB_NO_ROUTE" or left == 0:
                raise
            say("note", text=f"{error}; going on, {left} more times")


def sums_said(path: str, files: Files) -> dict[str, str]:
    """``{name: sha256}`` as the hub says; small files are checked by git's id. Raises Refusal."""
    sums = {row["name"]: row["sha256"] for row in files if row["sha256"]}
    for row in files:
        if not row["sha1"]:
            continue
        with open(os.path.join(path, row["name"]), "rb") as stream:
            data = stream.read()
        if git_blob(data) != row["sha1"]:
            raise Refusal("WEIGHTS_DAMAGED", f"{row['name']} is not what the hub says")
        sums[row["name"]] = hashlib.sha256(data).hexdigest()
    return sums


def git_blob(data: bytes) -> str:
    """Git's id of a file, which hubs give for the small ones."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def store_sums(path: str, sums: Mapping[str, str]) -> None:
    """Write SHA256SUMS, whole or not at all."""
    partial = os.path.join(path, LISTING + ".new")
    with open(partial, "w", encoding="utf-8") as stream:
        stream.writelines(f"{sums[name]}  {name}\n" for name in sorted(sums))
    os.replace(partial, os.path.join(path, LISTING))


def ask(order: Order, what: str, measure: Measure = NO_MEASURE) -> Any:
    """An answer of the hub's client. Raises Refusal with the cause."""
    only = json.dumps({key: order[key] for key in ORDER})
    argv = [sys.executable, "-s", "-E", "-c", inspect.getsource(hubclient), what, only]
    _, tail = watched(argv, {**order["env"], **QUIET}, measure)
    row = answer_in(tail)
    if row is not None and "done" in row:
        return row["done"]
    said, status = (row["error"], row["status"]) if row else ([], None)
    refuse(order, said or tail, status)


def answer_in(lines: Sequence[str]) -> dict[str, Any] | None:
    """The client's last answer among its lines."""
    line = next((line for line in reversed(lines) if line.startswith(hubclient.MARK)), None)
    return None if line is None else dict(json.loads(line[len(hubclient.MARK) :]))


def refuse(order: Order, said: Iterable[str], status: int | None) -> NoReturn:
    """Raises Refusal with the cause. In: what the client said, the status of the hub's answer."""
    text = "\n".join(said)
    lines = [line for line in text.splitlines() if line.strip()][-8:]
    name = f"{order['repo']} of {order['hub']}"
    if "No space left" in text:
        raise Refusal("DISK_FULL", "its disk is full", lines)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        raise Refusal("HUB_TLS", "the hub's certificate is not trusted", lines)
    if status in (401, 403) or "Gated" in text:
        raise Refusal("HUB_AUTH", f"the hub asks for a login, or refuses it, for {name}", lines)
    missing = Refusal("HUB_MISSING", f"the hub has no {name} at {order['revision'] or 'its default'}", lines)
    if status == 404:
        raise missing
    # Before the names of errors: a file that is "not found" here may be so because nobody answered.
    if any(word in text for word in NO_ROUTE):
        raise Refusal("HUB_NO_ROUTE", "the hub does not answer, or the connection breaks", lines)
    if "NotFound" in text or "not exist" in text:
        raise missing
    raise Refusal("HUB_FAILED", "the hub's client fails", lines)


def unpack(folder: str, length: int) -> None:
    """Unpack the hub's client, which follows the order on standard input."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    partial = tempfile.mkdtemp(prefix="hub-", dir=os.path.dirname(folder))
    try:
        with tempfile.TemporaryFile() as archive:
            archive.write(sys.stdin.buffer.read(length))
            archive.seek(0)
            with tarfile.open(fileobj=archive) as members:
                members.extractall(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
