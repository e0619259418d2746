"""Checkpoints in safetensors form: what a folder has to hold, and whether it does.

For the probe and for ``weights``; on the controller for a delivery.

Only headers are read here: a shard is whole when its header can be read, its
tensors are as long as their shapes say, they end where the file ends, and every
tensor that the index puts into it is there. What the bytes are is a matter of
sha256, remembered with size, times and inode in a record.
"""

from __future__ import annotations

import glob
import hashlib
import json
import operator
import os
import re
import struct
from typing import Any, Mapping

from . import files

INDEX = "model.safetensors.index.json"
SUMS = "SHA256SUMS"
HEADER_LIMIT = 100 << 20
# The index of DeepSeek-R1 has 9 MB.
JSON_LIMIT = 256 << 20
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8,
}  # fmt: skip
# Files by which two copies of a checkpoint are compared; a README may differ.
COUNTS = (".safetensors", ".json", ".py", ".model", ".txt", ".jinja")


class BadShard(ValueError):
    """A shard that is no whole safetensors file; the text says why."""


def read_json(path):
    """A JSON document, or None where there is none that can be read."""
    return files.read_json(path, JSON_LIMIT)


def shards_of_index(folder):
    """``{shard: [tensors that the index puts into it]}``, or None where there is no index."""
    index = read_json(os.path.join(folder, INDEX))
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        return None
    shards = {}
    for tensor, name in index["weight_map"].items():
        shards.setdefault(str(name), []).append(tensor)
    return shards


def shards_of(folder):
    """As ``shards_of_index``; without an index every safetensors file of the folder, no tensors."""
    shards = shards_of_index(folder)
    if shards is not None:
        return shards
    return {os.path.basename(path): [] for path in glob.glob(glob.escape(folder) + "/*.safetensors")}


def check_shard(path, tensors):
    """(size, sha256 of the header) of a whole shard. Raises FileNotFoundError, BadShard."""
    try:
        size = os.stat(path).st_size
        with files.open_plain(path) as stream:
            head = struct.unpack("<Q", stream.read(8))[0]
            if head > HEADER_LIMIT:
                raise BadShard("no safetensors header")
            raw = stream.read(head)
        if len(raw) < head:
            raise BadShard("cut in its header, at %d bytes" % size)
        header = json.loads(raw)
        rows = {name: row for name, row in header.items() if name != "__metadata__"}
        ends = [0]
        for name, row in rows.items():
            begin, end = (operator.index(place) for place in row["data_offsets"])
            ends.append(end)
            count = 1
            for length in row["shape"]:
                count *= operator.index(length)
            bits = BITS.get(row["dtype"])
            if bits is not None and (end - begin) * 8 != count * bits:
                raise BadShard("%s is not as long as its shape says" % name)
    except (BadShard, FileNotFoundError):
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error):
        # Bytes that are no header, or a header that is JSON of another shape.
        raise BadShard("no safetensors header")
    whole = 8 + head + max(ends)
    if size != whole:
        raise BadShard("%d of %d bytes" % (size, whole) if size < whole else "%d bytes too many" % (size - whole))
    lost = [name for name in tensors if name not in rows]
    if lost:
        raise BadShard("lacks %s%s" % (lost[0], " and %d more tensors" % (len(lost) - 1) if len(lost) > 1 else ""))
    return size, hashlib.sha256(raw).hexdigest()


def look_checkpoint(folder: str, places: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The checkpoint of a folder by its headers: shards, those missing, ``{those not whole: why}``, bytes, layers.

    In: ``places``, ``{name: path}`` of files that are to be read elsewhere. ``sum`` is equal for folders that hold
    the same, as far as headers and sizes tell.
    """
    found: dict[str, Any] = {
        "path": folder,
        "exists": os.path.isdir(folder),
        "shards": 0,
        "missing": [],
        "bad": [],
        "bytes": 0,
    }
    if not found["exists"]:
        return found
    shards = shards_of(folder)
    config = read_json(os.path.join(folder, "config.json"))
    layers = config.get("num_hidden_layers") if isinstance(config, dict) else None
    found["index"] = os.path.exists(os.path.join(folder, INDEX))
    found["config"] = os.path.exists(os.path.join(folder, "config.json"))
    found["layers"] = layers if isinstance(layers, int) and layers > 0 else None
    found["shards"] = len(shards)
    why, whole = {}, []
    if found["index"] and shards_of_index(folder) is None:
        why[INDEX] = "holds no weight_map"
    for name in sorted(shards):
        try:
            size, digest = check_shard((places or {}).get(name, os.path.join(folder, name)), shards[name])
        except FileNotFoundError:
            found["missing"].append(name)
        except BadShard as error:
            why[name] = str(error)
        else:
            found["bytes"] += size
            whole.append([name, size, digest])
    found["bad"], found["why"] = sorted(why), why
    listing = json.dumps([whole, found["missing"], found["bad"]])
    found["sum"] = hashlib.sha256(listing.encode()).hexdigest()[:12]
    return found


def stamp(path):
    """What changes when a file is written or replaced: size, mtime, ctime (no tool sets it back), inode."""
    info = os.stat(path)
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def content_files(folder):
    """Relative paths of the files that make up a checkpoint, sorted; hidden ones (caches, partial files) do not."""
    found = []
    for top, dirs, names in os.walk(folder):
        dirs[:] = [name for name in dirs if not name.startswith(".")]
        for name in names:
            if name.endswith(COUNTS) and not name.startswith(".") and "sha256" not in name.lower():
                found.append(os.path.relpath(os.path.join(top, name), folder))
    return sorted(found)


def known_sums(record, folder, names):
    """``{name: sha256}`` of those files whose stamp in the record still stands."""
    if not isinstance(record, dict) or record.get("path") != folder or not isinstance(record.get("files"), dict):
        return {}
    found = {}
    for name in names:
        row = record["files"].get(name)
        try:
            if (
                isinstance(row, list)
                and row
                and isinstance(row[-1], str)
                and row[:-1] == stamp(os.path.join(folder, name))
            ):
                found[name] = row[-1]
        except OSError:
            continue
    return found


def content_digest(record, folder):
    """One sha256 over the sums of all files of a checkpoint, or None where one of them is not known."""
    names = content_files(folder)
    sums = known_sums(record, folder, names)
    if not names or len(sums) < len(names):
        return None
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def parse_sums(text: str) -> dict[str, str]:
    """``{name: sha256}`` of a file as sha256sum writes it. Raises ValueError with the line's number."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.match(r"\\?([0-9a-fA-F]{64}) [ *](.+)$", line)
        if match is None:
            raise ValueError("line %d is not `SHA256  NAME`" % number)
        found[os.path.normpath(match.group(2).strip())] = match.group(1).lower()
    return found
