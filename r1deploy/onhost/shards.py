"""Checkpoints in safetensors form: what a folder has to hold, and whether it does.

For the probe and for ``checkpointwork``; on the controller for a delivery.

Only headers are read here: a shard is whole when its header can be read, its
tensors are as long as their shapes say, they end where the file ends, and every
tensor that the index puts into it is there. What the bytes are is a matter of
``sums``.
"""

from __future__ import annotations

import glob
import hashlib
import json
import operator
import os
import struct
from typing import Any, Iterable, Mapping

from . import plainfiles

INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
HEADER_LIMIT = 100 << 20
# The index of DeepSeek-R1 has 9 MB.
JSON_LIMIT = 256 << 20
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8,
}  # fmt: skip


class BadShard(ValueError):
    """A shard that is no whole safetensors file; the text says why."""


def read_json(path: str) -> Any:
    """A JSON document, or None where there is none that can be read."""
    return plainfiles.read_json(path, JSON_LIMIT)


def shards_of_index(folder: str) -> dict[str, list[str]] | None:
    """``{shard: [tensors that the index puts into it]}``, or None where there is no index."""
    index = read_json(os.path.join(folder, INDEX))
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        return None
    shards: dict[str, list[str]] = {}
    for tensor, name in index["weight_map"].items():
        shards.setdefault(str(name), []).append(tensor)
    return shards


def shards_of(folder: str) -> dict[str, list[str]]:
    """As ``shards_of_index``; without an index every safetensors file of the folder, no tensors."""
    shards = shards_of_index(folder)
    if shards is not None:
        return shards
    return {os.path.basename(path): [] for path in glob.glob(glob.escape(folder) + "/*.safetensors")}


def check_shard(path: str, tensors: Iterable[str]) -> tuple[int, str]:
    """(size, sha256 of the header) of a whole shard. Raises FileNotFoundError, BadShard."""
    try:
        size, raw = _header(path)
        rows = {name: row for name, row in json.loads(raw).items() if name != "__metadata__"}
        end = max([0, *(_end_of(name, row) for name, row in rows.items())])
    except (BadShard, FileNotFoundError):
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error):
        # Bytes that are no header, or a header that is JSON of another shape.
        raise BadShard("no safetensors header") from None
    whole = 8 + len(raw) + end
    if size != whole:
        raise BadShard(f"{size} of {whole} bytes" if size < whole else f"{size - whole} bytes too many")
    lost = [name for name in tensors if name not in rows]
    if lost:
        raise BadShard(f"lacks {lost[0]}" + (f" and {len(lost) - 1} more tensors" if len(lost) > 1 else ""))
    return size, hashlib.sha256(raw).hexdigest()


def _header(path: str) -> tuple[int, bytes]:
    """(size of a shard, its header). Raises BadShard, OSError, struct.error."""
    size = os.stat(path).st_size
    with plainfiles.open_plain(path) as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        if length > HEADER_LIMIT:
            raise BadShard("no safetensors header")
        raw = stream.read(length)
    if len(raw) < length:
        raise BadShard(f"cut in its header, at {size} bytes")
    return size, raw


def _end_of(name: str, row: Any) -> int:
    """Where a tensor of a header ends. Raises BadShard where its shape says something else, or what comes up."""
    begin, end = (operator.index(place) for place in row["data_offsets"])
    count = 1
    for length in row["shape"]:
        count *= operator.index(length)
    bits = BITS.get(row["dtype"])
    if bits is not None and (end - begin) * 8 != count * bits:
        raise BadShard(f"{name} is not as long as its shape says")
    return end


def absent(folder: str) -> dict[str, Any]:
    """What ``look_checkpoint`` says of a folder that is not there."""
    return {"path": folder, "exists": False, "shards": 0, "missing": [], "bad": [], "bytes": 0}


def look_checkpoint(folder: str, places: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The checkpoint of a folder by its headers: shards, those missing, ``{those not whole: why}``, bytes, layers.

    In: ``places``, ``{name: path}`` of files that are to be read elsewhere. ``sum`` is equal for folders that hold
    the same, as far as headers and sizes tell.
    """
    checkpoint = absent(folder)
    checkpoint["exists"] = os.path.isdir(folder)
    if not checkpoint["exists"]:
        return checkpoint
    shards = shards_of(folder)
    checkpoint["index"] = os.path.exists(os.path.join(folder, INDEX))
    checkpoint["config"] = os.path.exists(os.path.join(folder, CONFIG))
    checkpoint["layers"] = _layers(folder)
    checkpoint["shards"] = len(shards)
    why, whole = {}, []
    if checkpoint["index"] and shards_of_index(folder) is None:
        why[INDEX] = "holds no weight_map"
    for name in sorted(shards):
        try:
            size, digest = check_shard((places or {}).get(name, os.path.join(folder, name)), shards[name])
        except FileNotFoundError:
            checkpoint["missing"].append(name)
        except BadShard as error:
            why[name] = str(error)
        else:
            whole.append([name, size, digest])
    checkpoint["bytes"] = sum(row[1] for row in whole)
    checkpoint["bad"], checkpoint["why"] = sorted(why), why
    listing = json.dumps([whole, checkpoint["missing"], checkpoint["bad"]])
    checkpoint["sum"] = hashlib.sha256(listing.encode()).hexdigest()[:12]
    return checkpoint


# No model has more; what says so is not one.
MOST_LAYERS = 10**6


def _layers(folder: str) -> int | None:
    """The model's number of layers, as its configuration says."""
    config = read_json(os.path.join(folder, CONFIG))
    layers = config.get("num_hidden_layers") if isinstance(config, dict) else None
    return layers if isinstance(layers, int) and 0 < layers <= MOST_LAYERS else None
