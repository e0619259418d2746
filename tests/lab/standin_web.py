"""Stand-ins of a site's network: a proxy with a login, and a TLS server with git repositories and a package index.

git itself serves the repositories (``git http-backend``); the proxy only knows CONNECT.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import os
import re
import select
import socket
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PACKAGE = "r1lab-probe"


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[Any]:
    """A server in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Proxy(ThreadingHTTPServer):
    """``seen``: (client, target, status) of every CONNECT; ``refuse``: answers 403 to all."""

    def __init__(self, address: str, login: str) -> None:
        super().__init__((address, 0), _Connect)
        self.wanted = "Basic " + base64.b64encode(login.encode()).decode()
        self.refuse = False
        self.seen: list[tuple[str, str, int]] = []


class _Connect(BaseHTTPRequestHandler):
    server: Proxy
    # curl asks without the login first, and then again on the same connection.
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        known = self.headers.get("Proxy-Authorization") == self.server.wanted
        status = 403 if self.server.refuse else 200 if known else 407
        self.server.seen.append((self.client_address[0], self.path, status))
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="stand-in"')
        if status != 200:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if status == 200:
            self.close_connection = True
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as there:
                relay(self.connection, there)

    def log_message(self, *_: Any) -> None:
        pass


def relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one end is closed."""
    while True:
        for ready in select.select([one, other], [], [], 60)[0] or [None]:
            data = ready.recv(1 << 16) if ready else b""
            if not data:
                return
            (other if ready is one else one).sendall(data)


class Upstream(ThreadingHTTPServer):
    """https://ADDRESS:PORT/NAME.git and /simple/; ``seen``: the paths that were asked for.

    With ``login`` (user:password) repositories are given to that login only; ``argv`` are then the commands on this
    machine, the lab's hosts included, that had its password in an argument while somebody asked, encoded or not.
    """

    def __init__(self, address: str, repositories: Path, certificate: Path, wheel: Path) -> None:
        super().__init__((address, 0), _Upstream)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.repositories, self.wheel = repositories, wheel
        self.seen: list[str] = []
        self.login = ""
        self.argv: list[str] = []

    def known(self, authorization: str | None) -> bool:
        """Whether a request may be answered; looks around for the password meanwhile."""
        if not self.login:
            return True
        password = self.login.partition(":")[2]
        # What stands before the first character that an encoding changes is in all of them.
        self.argv += commands_with(re.split(r"[^\w-]", password)[0])
        return authorization == "Basic " + base64.b64encode(self.login.encode()).decode()

    def handle_error(self, *_: Any) -> None:
        """A client that does not trust us hangs up: that is what some tests want."""


class _Upstream(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.seen.append(path)
        if path == f"/simple/{PACKAGE}/":
            name = self.server.wheel.name
            self.answer(b"200", [(b"Content-Type", b"text/html")], f'<a href="/{name}">{name}</a>'.encode())
        elif path == f"/{self.server.wheel.name}":
            self.answer(b"200", [], self.server.wheel.read_bytes())
        else:
            self.git(path, query)

    do_POST = do_GET

    def git(self, path: str, query: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.server.known(self.headers.get("Authorization")):
            self.answer(b"401", [(b"WWW-Authenticate", b'Basic realm="stand-in"')], b"")
            return
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        rows = [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n") if b": " in line]
        status = next((value.split()[0] for key, value in rows if key == b"Status"), b"200")
        self.answer(status, [row for row in rows if row[0] != b"Status"], content)

    def answer(self, status: bytes, rows: list[Any], content: bytes) -> None:
        self.send_response(int(status))
        for key, value in rows:
            self.send_header(key.decode(), value.decode())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def commands_with(text: str) -> list[str]:
    """The commands of all processes of this machine that have a text in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in command:
                found.append(command)
    return found


def certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """A certificate with its key for an address, signed by a CA that nobody knows; returns both files."""
    key, ca_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in CA of the r1deploy lab")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    now = datetime.datetime.now(datetime.UTC)

    def signed(subject: x509.Name, public: Any, extensions: list[tuple[Any, bool]]) -> bytes:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = signed(issuer, ca_key.public_key(), [(x509.BasicConstraints(True, None), True), (ca_id, False), (usage, True)])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id)
    own = signed(subject, key.public_key(), [(names, False), (authority, False)])
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.pem").write_bytes(ca)
    (folder / "server.pem").write_bytes(secret + own)
    return folder / "ca.pem", folder / "server.pem"


def wheel(folder: Path) -> Path:
    """The smallest wheel that pip takes."""
    name = PACKAGE.replace("-", "_")
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path
