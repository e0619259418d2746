"""A stand-in of a container registry (API v2), run on a lab host: it serves one `docker save` folder, or refuses.

``python3 standin_registry.py PORT FOLDER LOGIN MODE LOG``. LOGIN is ``user:password`` or empty. MODE: ``serve``;
``limit`` answers as a registry does whose rate limit is reached. Each request's line goes to LOG, with the user's
name but never a password.
"""

import base64
import hashlib
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, FOLDER, LOGIN, MODE, LOG = int(sys.argv[1]), *sys.argv[2:6]
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(path):
    with open(path, "rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def descriptor(path, media):
    return {"mediaType": media, "size": os.path.getsize(path), "digest": digest_of(path)}


with open(os.path.join(FOLDER, "manifest.json")) as listing:
    ROW = json.load(listing)[0]
FILES = [os.path.join(FOLDER, name) for name in (ROW["Config"], *ROW["Layers"])]
PARTS = [descriptor(FILES[0], "application/vnd.docker.container.image.v1+json")]
PARTS += [descriptor(path, LAYER_TYPE) for path in FILES[1:]]
BLOBS = {part["digest"]: path for part, path in zip(PARTS, FILES, strict=True)}
MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": PARTS[0], "layers": PARTS[1:]}
).encode()
MANIFEST_DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        login = base64.b64decode(given).decode() if scheme == "Basic" else ""
        with open(LOG, "a") as stream:
            stream.write(f"{self.command} {self.path} user={login.partition(':')[0]}\n")
        if MODE == "limit":
            return self.refuse(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
        if LOGIN and login != LOGIN:
            return self.refuse(401, "UNAUTHORIZED", "authentication required")
        name = self.path.rsplit("/", 1)[-1]
        if self.path == "/v2/":
            return self.answer(200, b"{}", "application/json")
        if "/manifests/" in self.path:
            if name in (ROW["RepoTags"][0].rpartition(":")[2], MANIFEST_DIGEST):
                return self.answer(200, MANIFEST, MANIFEST_TYPE, {"Docker-Content-Digest": MANIFEST_DIGEST})
            return self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if "/blobs/" in self.path and name in BLOBS:
            return self.blob(BLOBS[name])
        return self.refuse(404, "NAME_UNKNOWN", "repository name not known to registry")

    do_HEAD = do_GET

    def blob(self, path):
        self.send_response(200)
        self.send_header("Content-Length", str(os.path.getsize(path)))
        self.end_headers()
        if self.command == "GET":
            with open(path, "rb") as stream:
                while chunk := stream.read(1 << 20):
                    self.wfile.write(chunk)

    def refuse(self, status, code, message):
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        headers = {"WWW-Authenticate": 'Basic realm="stand-in"'} if status == 401 else {}
        self.answer(status, body, "application/json", headers)

    def answer(self, status, body, media, headers=None):
        self.send_response(status)
        for key, value in {"Content-Type": media, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Registry).serve_forever()
