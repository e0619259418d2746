"""The hub's client for a host's Python."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from r1deploy.errors import PreflightError
from r1deploy.voice import Say

# What a user asks a hub's package by.
CLIENTS = {"huggingface": "huggingface_hub", "modelscope": "modelscope"}


def name_of(hub: str, version: str, arch: str) -> str:
    """What the client is called, here and on the host."""
    return f"{hub}-py{version}-{arch}"


def client(hub: str, version: str, arch: str, say: Say) -> bytes:
    """The hub's client for a host's Python, as a tar file; pip here gets it once.

    Not from the container's image, which comes with ``bootstrap`` only, and not with the host's pip,
    which is often not there: pip here has its index, proxy and certificates already. Raises PreflightError.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kept = Path(base) / "r1deploy" / "hub" / f"{name_of(hub, version, arch)}.tar.gz"
    if kept.is_file():
        return kept.read_bytes()
    say(f"getting {CLIENTS[hub]} for Python {version} on {arch} with pip")
    with tempfile.TemporaryDirectory(prefix="r1-hub-") as folder:
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        argv += ["--target", folder, "--only-binary=:all:", "--implementation", "cp", "--python-version", version]
        for tag in ("manylinux2014", "manylinux_2_17", "manylinux_2_28"):
            argv += ["--platform", f"{tag}_{arch}"]
        done = subprocess.run([*argv, CLIENTS[hub]], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()][-5:]
            message = f"pip cannot get {CLIENTS[hub]} for Python {version}"
            fix = "give pip here its index or proxy (PIP_INDEX_URL, PIP_FIND_LINKS, HTTPS_PROXY)"
            raise PreflightError("HUB_CLIENT_MISSING", message, evidence=lines, fix=fix)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=3) as archive:
            archive.add(folder, arcname=".")
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_bytes(stream.getvalue())
    partial.replace(kept)
    return stream.getvalue()
