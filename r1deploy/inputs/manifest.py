"""What an engine with containerd's image store calls the image of a tarball.

Docker's older store names an image by the sha256 of its configuration, containerd's by the
sha256 of its manifest. A file with an OCI layout brings its manifest; for the older form
containerd writes one, always the same way (seen: Docker 26.1.5; read: containerd 2.0).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class _Named(BaseModel):
    digest: str


class _Blob(BaseModel):
    """A manifest, or an index of some."""

    config: _Named | None = None
    manifests: list[_Named] | None = None


def brought(kept: Mapping[str, bytes], identity: str) -> str | None:
    """The manifest of the file's own index that leads to a configuration.

    In: the file's small members by name; the configuration's digest. None where none leads there.
    Raises KeyError, ValidationError where one cannot be read.
    """
    rows = _Blob.model_validate_json(kept["index.json"]).manifests or []
    return next((row.digest for row in rows if _leads(kept, row.digest, identity, 2)), None)


def _leads(kept: Mapping[str, bytes], digest: str, identity: str, depth: int) -> bool:
    """Whether a manifest, or an index of some, names the configuration."""
    data = kept.get("blobs/" + digest.replace(":", "/", 1))
    if data is None or digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
        return False
    blob = _Blob.model_validate_json(data)
    if blob.config is not None:
        return blob.config.digest == identity
    rows = blob.manifests or [] if depth else []
    return any(_leads(kept, row.digest, identity, depth - 1) for row in rows)


def written(config: tuple[str, int], layers: list[tuple[str, int, bool]]) -> str:
    """The digest of the manifest that containerd writes for a file without one.

    In: digest and size of the configuration; of each layer as it lies in the file, and whether it is packed.
    """
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _descriptor("application/vnd.docker.container.image.v1+json", *config),
        "layers": [_descriptor(LAYER + (".gzip" if packed else ""), digest, size) for digest, size, packed in layers],
    }
    return f"sha256:{hashlib.sha256(json.dumps(manifest, separators=(',', ':')).encode()).hexdigest()}"


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": size}
