"""A stand-in for a model hub, on the lab's own network: the few requests that the hubs' own clients make.

It is not Hugging Face and not ModelScope. It serves one repository from memory, with ranges,
and can be told to cut a connection, to ask for a login, or to lie about a file.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPO = "stand-in/checkpoint"
COMMIT = hashlib.sha1(b"the only commit of the stand-in").hexdigest()


@dataclass
class Hub:
    """What it holds, what it was asked, how it fails.

    ``cut`` ends the connection after so many bytes of the first answers with a large file, ``cuts`` times.
    """

    address: str
    files: dict[str, bytes]
    port: int = 0
    cut: int = 0
    cuts: int = 0
    login: bool = False
    lies: frozenset[str] = frozenset()
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def sent(self, name: str) -> bytes:
        """The bytes of a file, as they are sent."""
        data = self.files[name]
        return bytes(len(data)) if name in self.lies else data

    def ranges(self, name: str) -> list[str]:
        """The ranges with which a file was asked for."""
        return [given for path, given in self.asked if f"/{name}?" in path and given]


def large(name: str) -> bool:
    """Whether a hub keeps a file apart (LFS) and knows its sha256."""
    return name.endswith(".safetensors")


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: pytest shows what matters."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        with self.hub.lock:
            self.hub.asked.append((f"{path}?{parts.query}", self.headers.get("Range")))
        if self.hub.login:
            self.document({"error": "login"}, 401, body)
        elif path.startswith(f"/api/models/{REPO}"):
            self.document(self.tree() if "/tree/" in path else self.info(), 200, body)
        elif path.startswith(f"/{REPO}/resolve/"):
            self.file(path.split("/resolve/")[1].partition("/")[2], body)
        elif path == f"/api/v1/models/{REPO}/repo/files":
            self.document({"Code": 200, "Success": True, "Data": {"Files": self.listing()}}, 200, body)
        elif path == f"/api/v1/models/{REPO}/repo" and "FilePath" in query:
            self.file(query["FilePath"][0], body)
        elif path.startswith(f"/api/v1/models/{REPO}"):
            self.document({"Code": 200, "Success": True, "Data": {"Name": REPO, "RevisionMap": REVISIONS}}, 200, body)
        else:
            self.document({"error": "Repository not found"}, 404, body)

    def info(self) -> dict[str, Any]:
        return {"id": REPO, "modelId": REPO, "sha": COMMIT, "private": False, "tags": [], "siblings": self.siblings()}

    def siblings(self) -> list[dict[str, Any]]:
        rows = []
        for name, data in self.hub.files.items():
            row: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_id(data)}
            if large(name):
                row["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
            rows.append(row)
        return rows

    def tree(self) -> list[dict[str, Any]]:
        rows = []
        for name, data in self.hub.files.items():
            row: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git_id(data)}
            if large(name):
                row["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
            rows.append(row)
        return rows

    def listing(self) -> list[dict[str, Any]]:
        return [
            {"Name": name, "Path": name, "Type": "blob", "Size": len(data), "Sha256": sha256(data), "Revision": COMMIT}
            for name, data in self.hub.files.items()
        ]

    def document(self, value: Any, status: int, body: bool) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def file(self, name: str, body: bool) -> None:
        if name not in self.hub.files:
            self.document({"error": "Entry not found"}, 404, body)
            return
        whole, given = self.hub.sent(name), self.headers.get("Range")
        begin, end = 0, len(whole)
        if given:
            first, _, last = given.removeprefix("bytes=").partition("-")
            begin, end = int(first), int(last) + 1 if last else len(whole)
        etag = sha256(self.hub.files[name]) if large(name) else git_id(self.hub.files[name])
        self.send_response(206 if given else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag}"')
        if large(name):
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(len(whole)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - begin))
        if given:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(whole)}")
        self.end_headers()
        if not body:
            return
        with self.hub.lock:
            cut = self.hub.cut if large(name) and self.hub.cuts > 0 and end - begin > self.hub.cut > 0 else 0
            self.hub.cuts -= 1 if cut else 0
        self.wfile.write(whole[begin : begin + cut] if cut else whole[begin:end])
        if cut:
            self.close_connection = True
            self.connection.close()


REVISIONS = {
    "Branches": [{"Revision": "master", "CreatedAt": 1700000000}],
    "Tags": [],
}


@contextmanager
def running(address: str, files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub on a free port of an address of this machine."""
    hub = Hub(address, files)
    server = ThreadingHTTPServer((address, 0), type("Bound", (Handler,), {"hub": hub}))
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
