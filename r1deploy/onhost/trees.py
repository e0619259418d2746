"""Manifests of file trees: what a built tree holds, and whether it still does.

For the Ansible module ``r1_tree`` and for the probe.

A manifest is ``{"version": 1, "digest": sha256, "files": {path: [sha256, size]}}``.
Files that a build or an import leaves behind (``.git``, byte code) do not count;
files that appear later are ignored, since an installer may write beside them:
what counts is that each file of the manifest is there and holds the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import Any, Dict, Iterable, Mapping

from .plainfiles import open_plain, read_json

SKIP_DIRS = {".git", "__pycache__"}
SKIP_SUFFIXES = (".pyc", ".pyo")
STAMPS = "stamps.json"
MANIFEST_LIMIT = 64 << 20
# A JSON object.
Document = Dict[str, Any]


def _lines(path: str) -> list[Any]:
    """What identifies one entry: its sha256 and size; a link is its target."""
    if os.path.islink(path):
        target = os.readlink(path).encode("utf-8", "surrogateescape")
        return ["link:" + hashlib.sha256(target).hexdigest(), len(target)]
    digest = hashlib.sha256()
    size = 0
    with open_plain(path) as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
            size += len(block)
    return [digest.hexdigest(), size]


def walk(root: str, parts: Iterable[str]) -> list[str]:
    """Relative paths of all files and links below ``root``/part for each part, sorted."""
    paths = []
    for part in parts:
        top = os.path.join(root, part)
        for folder, dirs, names in os.walk(top):
            dirs[:] = sorted(d for d in dirs if d not in SKIP_DIRS)
            links = [d for d in dirs if os.path.islink(os.path.join(folder, d))]
            for name in names + links:
                path = os.path.join(folder, name)
                if _counts(path):
                    paths.append(os.path.relpath(path, root))
    return sorted(paths)


def _counts(path: str) -> bool:
    """Whether a file or link belongs into a manifest."""
    if path.endswith(SKIP_SUFFIXES) or os.path.basename(path) == ".git":
        return False
    return stat.S_ISREG(os.lstat(path).st_mode) or os.path.islink(path)


def digest_of(files: Mapping[str, Any]) -> str:
    """One sha256 for a manifest's ``files``."""
    canonical = json.dumps(files, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def record(root: str, parts: Iterable[str]) -> Document:
    """Hash every file below the parts of ``root`` and return the manifest."""
    files = {path: _lines(os.path.join(root, path)) for path in walk(root, parts)}
    return {"version": 1, "digest": digest_of(files), "files": files}


def _stamp(path: str) -> list[int]:
    """What changes when a file is written, moved or replaced: size, mtime, ctime, inode."""
    info = os.lstat(path)
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def stamps(root: str, manifest: Document) -> Document:
    """The stamps of all files of a manifest: ``{path: stamp}``; missing files are left out."""
    stamped = {}
    for path in manifest["files"]:
        try:
            stamped[path] = _stamp(os.path.join(root, path))
        except (OSError, ValueError):
            continue
    return stamped


def verify(root: str, manifest: Document, known: Document | None = None) -> list[str]:
    """Paths of a manifest that are missing or differ, sorted.

    ``known`` are stamps taken when the content was last verified: files whose
    stamp is unchanged are not read again.
    """
    if digest_of(manifest["files"]) != manifest["digest"]:
        return ["manifest.json"]
    known = known or {}
    bad = []
    for path, wanted in manifest["files"].items():
        full = os.path.join(root, path)
        try:
            if known.get(path) == _stamp(full):
                continue
            if _lines(full) != wanted:
                bad.append(path)
        except (OSError, ValueError):  # ValueError: a name that no file can have
            bad.append(path)
    return sorted(bad)


def load(path: str) -> Any:
    """A JSON document, or None where there is none that can be read."""
    return read_json(path, MANIFEST_LIMIT)


def load_manifest(root: str) -> Document | None:
    """The manifest of the tree in ``root``; None where there is none, or a document of another shape."""
    manifest = load(os.path.join(root, "manifest.json"))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("digest"), str):
        return None
    return manifest if isinstance(manifest.get("files"), dict) else None


def load_stamps(root: str) -> Document:
    """The stamps of the tree in ``root``; none of them where they cannot be read: then the files are."""
    stamped = load(os.path.join(root, STAMPS))
    return stamped if isinstance(stamped, dict) else {}


def store(path: str, document: object) -> None:
    """Write a JSON document so that it is either whole or not there."""
    temporary = path + ".new"
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(document, stream, sort_keys=True, separators=(",", ":"))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def state(root: str) -> Document | None:
    """State of the tree kept in ``root``: ``{"digest", "bad", "files"}`` or None without a manifest."""
    manifest = load_manifest(root)
    if manifest is None:
        return None
    bad = verify(root, manifest, load_stamps(root))
    return {"digest": manifest["digest"], "bad": bad[:5], "bad_count": len(bad), "files": len(manifest["files"])}
