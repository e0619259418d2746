"""Stand-in weights: valid safetensors files, a few kilobytes, no model in them."""

from __future__ import annotations

import json
import struct
from typing import Any

from r1deploy.lab import access, hosts
from r1deploy.lab import layout as names

SHARDS = 3
NOTE = "Stand-in weights of the r1deploy lab: the files are valid, the numbers mean nothing."


def safetensors(tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A safetensors file of zeros: 8-byte header length, JSON header, data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "note": NOTE}}
    offset = 0
    for name, shape in tensors.items():
        size = 1
        for length in shape:
            size *= length
        header[name] = {"dtype": "I8", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(offset)


def config() -> dict[str, Any]:
    return {
        "_note": NOTE,
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "vocab_size": 256,
        "max_position_embeddings": 163840,
        "torch_dtype": "bfloat16",
        "compression_config": {"format": "int-quantized", "quant_method": "compressed-tensors"},
    }


def files() -> dict[str, bytes]:
    """Every file of the weights' folder."""
    found: dict[str, bytes] = {}
    index: dict[str, str] = {}
    total = 0
    for number in range(1, SHARDS + 1):
        name = f"model-{number:05d}-of-{SHARDS:06d}.safetensors"
        tensors = {f"model.layers.{number - 1}.mlp.down_proj.weight": (64, 64), f"model.norm.{number}": (64,)}
        found[name] = safetensors(tensors)
        index.update(dict.fromkeys(tensors, name))
        total += 64 * 64 + 64
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 16384, "_note": NOTE}
    as_json = {
        "config.json": config(),
        "generation_config.json": {"temperature": 0.6, "top_p": 0.95},
        "tokenizer_config.json": tokenizer,
        "tokenizer.json": {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}},
        "model.safetensors.index.json": {"metadata": {"total_size": total}, "weight_map": index},
    }
    found.update({name: (json.dumps(value, indent=2) + "\n").encode() for name, value in as_json.items()})
    return found


def ensure(client: Any, container: str) -> None:
    """Lay the weights on the share once; every host has it mounted, as with NFS."""
    probe = ["test", "-f", f"{names.WEIGHTS_ON_HOST}/model.safetensors.index.json"]
    if hosts.execute(client, container, probe)[0] == 0:
        return
    access.check_run(client, container, f"mkdir -p {names.WEIGHTS_ON_HOST}")
    laid = {f"{names.WEIGHTS_ON_HOST}/{name}": (data, 0o644, 0) for name, data in files().items()}
    hosts.put_files(client, container, laid)
