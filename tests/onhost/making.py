"""Made-up files for the tests of what runs on hosts."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def put(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def shard(path: Path, size: int = 64, cut: int = 0, tensor: str = "w", length: int | None = None) -> None:
    row = {"dtype": "I8", "shape": [size if length is None else length], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"format": "pt"}, tensor: row}).encode()
    data = struct.pack("<Q", len(header)) + header + b"\1" * size
    put(path, data[: len(data) - cut])


def put_checkpoint(folder: Path, names: list[str], index: bool = True) -> None:
    for number, name in enumerate(names):
        shard(folder / name, tensor=f"layer{number}")
    put(folder / "config.json", '{"num_hidden_layers": 2}')
    if index:
        rows = {f"layer{number}": name for number, name in enumerate(names)}
        put(folder / "model.safetensors.index.json", json.dumps({"weight_map": rows}))
