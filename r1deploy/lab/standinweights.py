"""Stand-in weights: valid safetensors files, a few kilobytes, no model in them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from r1deploy.lab import access, hosts, places
from r1deploy.lab.laberrors import LabError

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
    contents: dict[str, bytes] = {}
    index: dict[str, str] = {}
    total = 0
    for number in range(1, SHARDS + 1):
        name = f"model-{number:05d}-of-{SHARDS:06d}.safetensors"
        tensors = {f"model.layers.{number - 1}.mlp.down_proj.weight": (64, 64), f"model.norm.{number}": (64,)}
        contents[name] = safetensors(tensors)
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
    contents.update({name: (json.dumps(value, indent=2) + "\n").encode() for name, value in as_json.items()})
    return contents


def are_there(client: Any, container: str, folder: str) -> bool:
    """Whether the share holds a checkpoint in this folder."""
    probe = ["test", "-f", f"{places.MODELS_ON_HOST}/{folder}/model.safetensors.index.json"]
    return hosts.execute(client, container, probe)[0] == 0


def ensure(client: Any, container: str, folder: str) -> None:
    """Lay the stand-in's weights on the share once; every host has it mounted, as with NFS."""
    if are_there(client, container, folder):
        return
    target = f"{places.MODELS_ON_HOST}/{folder}"
    access.check_run(client, container, f"mkdir -p {target}")
    hosts.put_files(client, container, {f"{target}/{name}": (data, 0o644, 0) for name, data in files().items()})


def ensure_random(client: Any, container: str, folder: str, image: str, say: Callable[[str], None]) -> None:
    """Random weights that the real engine serves, made once on the share by the image's own transformers."""
    from docker.errors import ContainerError

    if are_there(client, container, folder):
        return
    access.check_run(client, container, f"rm -rf {places.MODELS_ON_HOST}/{folder}.partial")
    try:
        client.containers.run(
            image,
            ["python3", "/opt/r1lab/make_weights.py", f"{places.MODELS_ON_HOST}/{folder}"],
            volumes={places.SHARE_VOLUME: {"bind": places.MOUNT_POINT, "mode": "rw"}},
            network_mode="none",
            remove=True,
        )
    except ContainerError as error:
        tail = (error.stderr or b"").decode(errors="replace").splitlines()[-8:]
        raise LabError("could not make random weights", evidence="\n".join(tail)) from error
    say(f"made random weights of DeepSeek-V3's architecture: {places.MODELS_ON_HOST}/{folder}")
