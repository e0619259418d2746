"""A checkpoint by its headers and sums, as the probe says it."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import sums, weightsfolder
from r1deploy.planning.observed import Weights
from tests.onhost.making import put, put_checkpoint, shard


def weights(folder: Path) -> Weights:
    """As the container sees it through a volume that holds the folder."""
    request = {"weights": str(folder), "model": f"/data1/{folder.name}", "volumes": [[str(folder.parent), "/data1"]]}
    return Weights.model_validate(weightsfolder.look_weights(request, f"{folder}.record"))


def test_whole_checkpoint(tmp_path: Path) -> None:
    put_checkpoint(tmp_path, ["a.safetensors", "b.safetensors"])
    found = weights(tmp_path)
    assert (found.exists, found.index, found.config, found.shards) == (True, True, True, 2)
    assert (found.missing, found.bad) == ((), ())
    assert found.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))


def test_same_checkpoints_have_the_same_sum(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        put_checkpoint(tmp_path / name, ["a.safetensors", "b.safetensors"])
    shard(tmp_path / "three" / "b.safetensors", size=65, tensor="layer1")
    one, two, three = (weights(tmp_path / name).sum for name in ("one", "two", "three"))
    assert one == two != three


def test_cut_shard(tmp_path: Path) -> None:
    put_checkpoint(tmp_path, ["a.safetensors", "b.safetensors"])
    shard(tmp_path / "b.safetensors", cut=1, tensor="layer1")
    found = weights(tmp_path)
    assert (found.missing, found.bad) == ((), ("b.safetensors",))
    size = (tmp_path / "b.safetensors").stat().st_size
    assert found.why == {"b.safetensors": f"{size} of {size + 1} bytes"}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"tensor": "other"}, "lacks layer1"),
        ({"tensor": "layer1", "length": 63}, "layer1 is not as long as its shape says"),
        ({"tensor": "layer1", "cut": 120}, "cut in its header"),
    ],
    ids=["a tensor of the index is not in it", "a shape that does not fit", "less than its header"],
)
def test_shard_of_another_kind(tmp_path: Path, how: dict[str, Any], why: str) -> None:
    put_checkpoint(tmp_path, ["a.safetensors", "b.safetensors"])
    assert weights(tmp_path).bad == ()
    shard(tmp_path / "b.safetensors", **how)
    found = weights(tmp_path)
    assert found.bad == ("b.safetensors",) and why in found.why["b.safetensors"]


def test_bytes_are_remembered_until_a_file_changes(tmp_path: Path) -> None:
    folder, record = tmp_path / "c", tmp_path / "c.record"
    put_checkpoint(folder, ["a.safetensors", "b.safetensors"])
    assert weights(folder).content is None
    names = sums.content_files(str(folder))
    assert names == ["a.safetensors", "b.safetensors", "config.json", "model.safetensors.index.json"]
    rows = {name: [*sums.stamp(str(folder / name)), "a" * 64] for name in names}
    put(record, json.dumps({"path": str(folder), "files": rows}))
    first = weights(folder).content
    assert first is not None
    os.utime(folder / "b.safetensors", ns=(1, 1))
    assert weights(folder).content is None
    put(record, json.dumps({"path": "/elsewhere", "files": rows}))
    assert weights(folder).content is None


def test_sums_file() -> None:
    parse = sums.parse_sums
    one, two = "a" * 64, "B" * 64
    assert parse(f"# c\n{one}  ./x/y.bin\n\n{two} *z\n") == {"x/y.bin": one, "z": two.lower()}
    with pytest.raises(ValueError, match="line 2"):
        parse(f"{one}  x\n{one[:-1]}  y\n")


@pytest.mark.parametrize(
    "data",
    [b"", b"\1", struct.pack("<Q", 1 << 60), struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 2) + b"[]",
     struct.pack("<Q", 8) + b'{"a": 1}', struct.pack("<Q", 27) + b'{"a":{"data_offsets":null}}', b"version https://git-lfs"],
)  # fmt: skip
def test_a_shard_that_is_none(tmp_path: Path, data: bytes) -> None:
    put_checkpoint(tmp_path, ["a.safetensors", "b.safetensors"])
    put(tmp_path / "a.safetensors", data)
    assert weights(tmp_path).bad == ("a.safetensors",)


def test_missing_shard(tmp_path: Path) -> None:
    put_checkpoint(tmp_path, ["a.safetensors", "b.safetensors"])
    (tmp_path / "a.safetensors").unlink()
    found = weights(tmp_path)
    assert (found.shards, found.missing, found.bad) == (2, ("a.safetensors",), ())


def test_no_index(tmp_path: Path) -> None:
    put_checkpoint(tmp_path, ["b.safetensors", "a.safetensors"], index=False)
    found = weights(tmp_path)
    assert (found.index, found.shards, found.missing, found.bad) == (False, 2, (), ())


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', "null"])
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    put_checkpoint(tmp_path, ["a.safetensors"], index=False)
    put(tmp_path / "model.safetensors.index.json", text)
    found = weights(tmp_path)
    assert found.shards == 1
    assert found.bad == ("model.safetensors.index.json",)


def test_no_folder_no_config(tmp_path: Path) -> None:
    assert weightsfolder.look_weights({"weights": None}, "") is None
    assert weights(tmp_path / "nothing").exists is False
    found = weights(tmp_path)
    assert (found.exists, found.config, found.shards) == (True, False, 0)
