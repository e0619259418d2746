"""The vendor's image as a docker-save file: what is in it, whether it is whole, whether it is the locked one.

A file is read once: its sha256, its image, each layer against the image's own
list of them. On the hosts the engine itself unpacks: any Docker Engine reads gzip, zstd needs 23.0 (measured:
20.10.24 says "invalid tar header", 26.1.5 loads it).
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pydantic
from pydantic import BaseModel

from r1deploy.errors import PreflightError
from r1deploy.inputs import manifest
from r1deploy.inputs.archive import BLOCK, Hashed, Members, Read, members_of, unpacked
from r1deploy.settings.lockfile import LockedImage
from r1deploy.settings.model import Settings

ASK_AGAIN = "ask for the file again; compare its sha256 with the sender's"


@dataclass(frozen=True)
class Tarball:
    """A whole docker-save file: its sha256, the image it holds (configuration and manifest), how it is packed."""

    sha256: str
    image_id: str
    manifest: str | None
    arch: str | None
    packed: str
    layers: int


def inspect(path: Path, name: str, progress: Read | None = None) -> Tarball:
    """Read a whole docker-save file.

    In: the file; the image name it has to hold; ``progress`` takes bytes read and their total.
    Raises PreflightError: TARBALL_MISSING, TARBALL_DAMAGED, TARBALL_OTHER.
    """
    from zstandard import ZstdError

    if not path.is_file():
        raise PreflightError("TARBALL_MISSING", f"{path}: no such file", fix="set image.tarball to the vendor's file")
    try:
        with path.open("rb") as raw:
            hashed = Hashed(raw, progress)
            stream: io.BufferedReader[Any] = io.BufferedReader(hashed, BLOCK)
            packed, plain = unpacked(stream)
            members = members_of(plain)
            while plain.read(BLOCK):  # what follows the archive: gzip's checksum is there
                pass
            while stream.read(BLOCK):
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ZstdError) as error:
        raise _damaged(path, str(error)) from None
    row, config = _image(path, name, members)
    identity = f"sha256:{members.sums[row.Config]}"
    called = _manifest(path, members, row, config)
    arch = config.architecture or None
    return Tarball(hashed.sha256.hexdigest(), identity, called, arch, packed, len(row.Layers))


class _Row(BaseModel):
    """An image of manifest.json."""

    Config: str
    RepoTags: list[str] | None = None
    Layers: list[str]


class _Root(BaseModel):
    diff_ids: list[str]


class _Config(BaseModel):
    """An image's configuration."""

    architecture: str | None = None
    rootfs: _Root


class _Named(BaseModel):
    annotations: dict[str, str] | None = None


class _Index(BaseModel):
    """index.json of an OCI layout: an engine with the containerd store takes the images' names from here."""

    manifests: list[_Named] = []


_ROWS = pydantic.TypeAdapter(list[_Row])


def familiar(name: str) -> str:
    """An image's name as the engine shows it: ``docker.io/library/x`` is ``x:latest``."""
    for prefix in ("docker.io/", "index.docker.io/"):
        if name.startswith(prefix):
            name = name.removeprefix(prefix).removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def _chosen(path: Path, name: str, members: Members) -> _Row:
    """The image of that name; the file may give no other name to anything. Raises PreflightError, ValidationError."""
    rows = _ROWS.validate_json(members.kept["manifest.json"])
    index = _Index.model_validate_json(members.kept.get("index.json", b"{}"))
    given = [(row.annotations or {}).get("io.containerd.image.name") for row in index.manifests]
    tags = {familiar(tag) for row in rows for tag in row.RepoTags or []}
    named = tags | {familiar(tag) for tag in given if tag}
    row = next((row for row in rows if familiar(name) in map(familiar, row.RepoTags or [])), None)
    if row is None and not named and len(rows) == 1:
        image = PurePosixPath(rows[0].Config).name.removesuffix(".json")[:12]
        message = f"{path} holds the image {image} without a name: it was saved by its id"
        fix = f"docker load -i {path} && docker tag {image} {name} && docker save -o image.tar {name}"
        raise PreflightError("TARBALL_OTHER", message, fix=f"{fix}; then image.tarball: image.tar")
    if row is None:
        held = ", ".join(sorted(named)) or "images without names"
        fix = "set image.name to a name that it holds, or image.tarball to another file"
        raise PreflightError("TARBALL_OTHER", f"{path} holds {held}, not {name}", fix=fix)
    others = sorted(named - {familiar(name)})
    if others:
        message = f"{path} holds {', '.join(others)} too: to load it would give these names to other images"
        fix = f"docker load -i {path} on a machine that may have them, then docker save -o image.tar {name}"
        raise PreflightError("TARBALL_OTHER", message, fix=fix)
    return row


def _without_manifest(path: Path, name: str, members: Members) -> PreflightError:
    """What a whole archive without manifest.json is."""
    if any(member.startswith("etc/") for member in members.sums):
        message = f"{path} holds a file system (docker export), not an image"
        return PreflightError("TARBALL_OTHER", message, fix=f"ask for the output of: docker save {name}")
    if "oci-layout" in members.sums and "index.json" in members.sums:
        message = f"{path} is an OCI archive: it is whole, but not every Docker Engine loads one"
        fix = f"skopeo copy oci-archive:{path} docker-archive:image.tar:{name}, then image.tarball: image.tar"
        return PreflightError("TARBALL_OTHER", message, fix=fix)
    return _damaged(path, "it is truncated, or no docker-save file: no manifest.json in it")


def _image(path: Path, name: str, members: Members) -> tuple[_Row, _Config]:
    """Row of manifest.json and configuration of the image of that name, its parts seen. Raises PreflightError."""
    if "manifest.json" not in members.sums:
        raise _without_manifest(path, name, members)
    try:
        row = _chosen(path, name, members)
        config = _Config.model_validate_json(members.kept[row.Config])
    except (pydantic.ValidationError, KeyError) as error:
        raise _damaged(path, f"its manifest cannot be read: {_said(error)}") from None
    wanted, layers = config.rootfs.diff_ids, row.Layers
    identity = members.sums[row.Config]
    if identity != PurePosixPath(row.Config).name.removesuffix(".json"):
        raise _damaged(path, f"the image's configuration {row.Config} has the sha256 {identity[:12]}")
    if len(layers) != len(wanted):
        raise _damaged(path, f"{len(layers)} of {len(wanted)} layers")
    for layer, digest in zip(layers, wanted, strict=True):
        actual = members.sum_of(layer)
        if actual is None:
            raise _damaged(path, f"the layer {layer} is not in it")
        # By its content as it is unpacked, or (OCI layout) by its name, packed or not.
        if f"sha256:{actual}" != digest and actual != PurePosixPath(layer).name:
            raise _damaged(path, f"the layer {layer} has the sha256 {actual[:12]}")
    return row, config


def _manifest(path: Path, members: Members, row: _Row, config: _Config) -> str | None:
    """What an engine with containerd's store calls the image: the layout's own manifest, or the one it writes."""
    identity = f"sha256:{members.sums[row.Config]}"
    if "oci-layout" in members.sums:
        try:
            return manifest.brought(members.kept, identity)
        except (pydantic.ValidationError, KeyError) as error:
            raise _damaged(path, f"its index cannot be read: {_said(error)}") from None
    rows = []
    for layer, plain in zip(row.Layers, config.rootfs.diff_ids, strict=True):
        digest = f"sha256:{members.sum_of(layer)}"
        rows.append((digest, members.size_of(layer), digest != plain))
    return manifest.written((identity, members.sizes[row.Config]), rows)


def _said(error: pydantic.ValidationError | KeyError) -> str:
    return error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else f"no {error}"


def _damaged(path: Path, why: str) -> PreflightError:
    return PreflightError("TARBALL_DAMAGED", f"{path}: {why}", fix=ASK_AGAIN)


def lock_image(settings: Settings) -> LockedImage:
    """What r1deploy.lock keeps of the tarball that the settings name. Raises PreflightError."""
    path, expected = Path(settings.image.tarball or ""), settings.image.sha256
    image = inspect(path, settings.image.name)
    if expected and image.sha256 != expected:
        raise _damaged(path, f"sha256 {image.sha256[:12]}, image.sha256 says {expected[:12]}")
    remember(path, image.sha256)
    return LockedImage(
        name=settings.image.name,
        id=image.image_id,
        manifest=image.manifest,
        tarball_sha256=image.sha256,
        arch=image.arch,
        packed=image.packed,
    )


def prove_tarball(settings: Settings, image: LockedImage | None) -> str:
    """The tarball here is the locked one, before it goes anywhere; returns a sentence. Raises PreflightError.

    The sha256 is remembered by size, times and inode of the file.
    """
    if settings.image.tarball is None:
        return f"{settings.image.name} comes from a registry"
    path = Path(settings.image.tarball)
    if not path.is_file():
        raise PreflightError("TARBALL_MISSING", f"{path}: no such file", fix="set image.tarball to the vendor's file")
    if image is None or image.tarball_sha256 is None:
        return f"{path.name} is not locked yet"
    locked, expected = image.tarball_sha256, settings.image.sha256
    if expected and expected != locked:
        message = f"image.sha256 is {expected[:12]}, r1deploy.lock says {locked[:12]}"
        raise PreflightError("TARBALL_DAMAGED", message, fix="r1deploy bootstrap --upgrade, if the new one is meant")
    digest = recall(path)
    if digest is None:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        remember(path, digest)
    if digest != locked:
        message = f"{path}: sha256 {digest[:12]}, r1deploy.lock says {locked[:12]}"
        fix = f"{ASK_AGAIN}; if a new image is meant: r1deploy bootstrap --upgrade"
        raise PreflightError("TARBALL_DAMAGED", message, fix=fix)
    return f"{path.name} is the locked one, sha256 {digest[:12]}"


def memory_file() -> Path:
    """Where sums of tarballs are remembered here."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "r1deploy" / "tarballs.json"


def recall(path: Path) -> str | None:
    """The remembered sha256 of a file that did not change since."""
    row = _remembered().get(str(path))
    return str(row["sha256"]) if row and row.get("stamp") == _stamp(path) else None


def remember(path: Path, sha256: str) -> None:
    """Keep a file's sha256."""
    target = memory_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = {**_remembered(), str(path): {"stamp": _stamp(path), "sha256": sha256}}
    partial = target.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(rows), encoding="utf-8")
    partial.replace(target)


def _remembered() -> Mapping[str, Any]:
    try:
        rows = json.loads(memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return rows if isinstance(rows, dict) else {}


def _stamp(path: Path) -> list[int]:
    info = path.stat()
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
