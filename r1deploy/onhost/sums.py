"""The sha256 of a checkpoint's files: as sha256sum lists them, and remembered as long as a file stays as it is.

A record is ``{"version": 1, "path": folder, "files": {name: [size, mtime, ctime, inode, sha256]}}``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any, Iterable

LISTING = "SHA256SUMS"
# Files by which two copies of a checkpoint are compared; a README may differ.
COUNTS = (".safetensors", ".json", ".py", ".model", ".txt", ".jinja")


def stamp(path: str) -> list[int]:
    """What changes when a file is written or replaced: size, mtime, ctime (no tool sets it back), inode."""
    info = os.stat(path)
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def content_files(folder: str) -> list[str]:
    """Relative paths of the files that make up a checkpoint, sorted; hidden ones (caches, partial files) do not."""
    paths = []
    for top, dirs, names in os.walk(folder):
        dirs[:] = [name for name in dirs if not name.startswith(".")]
        for name in names:
            if name.endswith(COUNTS) and not name.startswith(".") and "sha256" not in name.lower():
                paths.append(os.path.relpath(os.path.join(top, name), folder))
    return sorted(paths)


def known_sums(record: Any, folder: str, names: Iterable[str]) -> dict[str, str]:
    """``{name: sha256}`` of those files whose stamp in the record still stands."""
    if not isinstance(record, dict) or record.get("path") != folder or not isinstance(record.get("files"), dict):
        return {}
    sums = {}
    for name in names:
        row = record["files"].get(name)
        if isinstance(row, list) and row and isinstance(row[-1], str) and _stands(row[:-1], os.path.join(folder, name)):
            sums[name] = row[-1]
    return sums


def _stands(known: list[Any], path: str) -> bool:
    """Whether a file still has the stamp that was written down."""
    try:
        return known == stamp(path)
    except OSError:
        return False


def content_digest(record: Any, folder: str) -> str | None:
    """One sha256 over the sums of all files of a checkpoint, or None where one of them is not known."""
    names = content_files(folder)
    sums = known_sums(record, folder, names)
    if not names or len(sums) < len(names):
        return None
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def parse_sums(text: str) -> dict[str, str]:
    """``{name: sha256}`` of a file as sha256sum writes it. Raises ValueError with the line's number."""
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.match(r"\\?([0-9a-fA-F]{64}) [ *](.+)$", line)
        if match is None:
            raise ValueError(f"line {number} is not `SHA256  NAME`")
        sums[os.path.normpath(match.group(2).strip())] = match.group(1).lower()
    return sums
