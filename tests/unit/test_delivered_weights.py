"""A checkpoint in a delivery: all that is wrong is named at once, whatever its files are called."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from r1deploy.onhost import processes, servingwatch
from r1deploy.planning.findings import Check
from r1deploy.settings.load import from_profile
from r1deploy.verbs.vendor import weights

SETTINGS = from_profile("iluvatar-bi-v150")


def shard(folder: Path, name: bytes = b"model.safetensors", whole: bool = True) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    data = struct.pack("<Q", len(header)) + header + b"12345678"
    with open(os.path.join(os.fsencode(folder), name), "wb") as stream:
        stream.write(data if whole else data[:-3])


def found(delivery: Path) -> dict[str, list[str]]:
    """Details by code of what failed, None for what passed."""
    rows: dict[str, list[str]] = {}
    for row in list[Check](weights(SETTINGS, delivery)):
        rows.setdefault(str(row.code), []).append(row.detail)
    return rows


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"num_hidden_layers": 61}')
    return folder


def test_a_whole_one_passes_and_is_measured(model: Path) -> None:
    shard(model)
    rows = found(model.parent)
    assert set(rows) == {"None"} and rows["None"][0].startswith("model: 1 shards, ") and len(rows["None"]) == 2


def test_what_lacks_and_what_is_damaged_are_said_together(model: Path) -> None:
    (model / "config.json").unlink()
    shard(model, whole=False)
    rows = found(model.parent)
    assert rows["WEIGHTS_MISSING"] == ["model: no config.json"]
    assert "truncated or damaged model.safetensors" in rows["WEIGHTS_DAMAGED"][0] and "None" not in rows


@pytest.mark.parametrize("name", [b"\xffa.safetensors", ("x" * 240 + ".safetensors").encode()])
def test_a_name_of_any_bytes_is_a_finding_and_no_bug(model: Path, name: bytes) -> None:
    shard(model, name, whole=False)
    assert list(found(model.parent)) == ["WEIGHTS_DAMAGED"]


def test_a_name_that_no_file_has_is_a_finding(model: Path) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "y" * 5000}}))
    assert "WEIGHTS_DAMAGED" in found(model.parent)


def test_layers_that_no_model_has_are_none(model: Path) -> None:
    (model / "config.json").write_text('{"num_hidden_layers": 10000000}')
    shard(model)
    assert set(found(model.parent)) == {"None"}


def test_what_the_gate_asks_is_not_taken_for_an_engine() -> None:
    assert not processes.SOUGHT.search(Path(servingwatch.__file__).read_text(encoding="utf-8"))
