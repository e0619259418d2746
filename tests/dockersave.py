"""docker-save files made up byte by byte, in the form of engines before 25."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import Any

NAME = "baai:v5"
LAYERS = [os.urandom(40_000), os.urandom(3_000)]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def archive(members: list[tuple[str, bytes]], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as target:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            target.addfile(entry, io.BytesIO(data))
        for name, link in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            target.addfile(entry)
    return stream.getvalue()


def config_of(layers: list[bytes], arch: str = "amd64") -> bytes:
    return json.dumps({"architecture": arch, "rootfs": {"diff_ids": [f"sha256:{sha(row)}" for row in layers]}}).encode()


def saved(name: str = NAME, layers: list[bytes] = LAYERS, **change: Any) -> bytes:
    """As engines before 25 save it: the manifest comes last."""
    proper = config_of(layers, change.get("arch", "amd64"))
    config = change.get("config", proper)
    places = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": f"{sha(proper)}.json", "RepoTags": [name], "Layers": places}]
    rows = [(manifest[0]["Config"], config), *zip(places, change.get("stored", layers), strict=True)]
    rows += [("manifest.json", json.dumps(manifest).encode()), ("repositories", b"{}")]
    return archive([row for row in rows if row[0] not in change.get("without", ())])  # type: ignore[misc]
