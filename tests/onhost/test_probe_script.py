"""The probe against made-up folders."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1deploy.onhost import checkpoint, probe, trees
from r1deploy.planning.observed import Chips, Weights
from r1deploy.planning.recorded import TreeState
from r1deploy.settings.load import from_profile

COMMIT, OTHER = "a" * 40, "b" * 40
CHIP = from_profile("iluvatar-bi-v150").chip


def put(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# Trees


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that was recorded as the module r1_tree does it."""
    put(tmp_path / "src" / "a.py", "print(1)\n")
    put(tmp_path / "src" / "deep" / "b.so", b"\x7fELF" * 10)
    put(tmp_path / "src" / ".git" / "HEAD", "x")
    put(tmp_path / "src" / "__pycache__" / "a.pyc", "x")
    put(tmp_path / "wheels" / "w.whl", "PK")
    (tmp_path / "src" / "link").symlink_to("a.py")
    manifest = trees.record(str(tmp_path), ["src", "wheels"])
    trees.store(str(tmp_path / "manifest.json"), manifest)
    trees.store(str(tmp_path / "stamps.json"), trees.stamps(str(tmp_path), manifest))
    return tmp_path


def state(root: Path) -> TreeState:
    return TreeState.model_validate(trees.state(str(root)))


def test_intact_tree(tree: Path) -> None:
    found = state(tree)
    assert (found.bad, found.bad_count, found.files) == ((), 0, 4)
    manifest = json.loads((tree / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["src/a.py", "src/deep/b.so", "src/link", "wheels/w.whl"]
    assert found.digest == manifest["digest"]


def test_an_intact_tree_is_not_read_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(trees, "_lines", read)
    assert state(tree).bad == ()


def test_altered_file_of_the_same_size(tree: Path) -> None:
    put(tree / "src" / "a.py", "print(2)\n")
    assert state(tree).bad == ("src/a.py",)


def test_altered_file_whose_time_was_put_back(tree: Path) -> None:
    path = tree / "src" / "a.py"
    before = path.stat()
    put(path, "print(2)\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state(tree).bad == ("src/a.py",)


def test_touched_but_the_same(tree: Path) -> None:
    os.utime(tree / "src" / "a.py", (1, 1))
    put(tree / "src" / "deep" / "b.so", b"\x7fELF" * 10)
    assert state(tree).bad == ()


def test_missing_file(tree: Path) -> None:
    (tree / "src" / "deep" / "b.so").unlink()
    assert state(tree).bad == ("src/deep/b.so",)


def test_link_to_elsewhere(tree: Path) -> None:
    (tree / "src" / "link").unlink()
    (tree / "src" / "link").symlink_to("deep/b.so")
    assert state(tree).bad == ("src/link",)


def test_files_that_appear_later_do_not_count(tree: Path) -> None:
    put(tree / "src" / "new.py", "x")
    put(tree / "src" / "__pycache__" / "b.pyc", "x")
    assert state(tree).bad == ()


def test_no_stamps_means_that_all_is_read(tree: Path) -> None:
    (tree / "stamps.json").unlink()
    assert state(tree).bad == ()
    put(tree / "wheels" / "w.whl", "XX")
    assert state(tree).bad == ("wheels/w.whl",)


def test_manifest_that_was_edited(tree: Path) -> None:
    manifest = json.loads((tree / "manifest.json").read_text())
    manifest["files"].pop("src/a.py")
    put(tree / "manifest.json", json.dumps(manifest))
    assert state(tree).bad == ("manifest.json",)


def test_many_bad_files_are_counted_and_some_are_named(tmp_path: Path) -> None:
    for number in range(8):
        put(tmp_path / "src" / str(number), "x")
    trees.store(str(tmp_path / "manifest.json"), trees.record(str(tmp_path), ["src"]))
    for number in range(7):
        put(tmp_path / "src" / str(number), "y")
    found = state(tmp_path)
    assert (len(found.bad), found.bad_count, found.files) == (5, 7, 8)


@pytest.mark.parametrize("text", [None, "", "{", "\0\0"])
def test_no_manifest_or_half_of_one_is_no_tree(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        put(tmp_path / "manifest.json", text)
    assert trees.state(str(tmp_path)) is None


# Clones


def test_git_head(tmp_path: Path) -> None:
    head = probe.git_head
    assert head(str(tmp_path)) is None, "no clone"
    put(tmp_path / ".git" / "HEAD", f"{COMMIT}\n")
    assert head(str(tmp_path)) == COMMIT, "detached"
    put(tmp_path / ".git" / "HEAD", "ref: refs/heads/a.b\n")
    assert head(str(tmp_path)) is None, "a branch without a commit"
    put(tmp_path / ".git" / "packed-refs", f"# pack-refs\n{OTHER} refs/heads/aXb\n{COMMIT} refs/heads/a.b\n^{OTHER}\n")
    assert head(str(tmp_path)) == COMMIT, "packed"
    put(tmp_path / ".git" / "refs" / "heads" / "a.b", f"{OTHER}\n")
    assert head(str(tmp_path)) == OTHER, "a loose ref is newer than a packed one"


# Weights


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


def weights(folder: Path) -> Weights:
    """As the container sees it through a volume that holds the folder."""
    request = {"weights": str(folder), "model": f"/data1/{folder.name}", "volumes": [[str(folder.parent), "/data1"]]}
    return Weights.model_validate(probe.look_weights(request, f"{folder}.record"))


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
    names = checkpoint.content_files(str(folder))
    assert names == ["a.safetensors", "b.safetensors", "config.json", "model.safetensors.index.json"]
    rows = {name: [*checkpoint.stamp(str(folder / name)), "a" * 64] for name in names}
    put(record, json.dumps({"path": str(folder), "files": rows}))
    first = weights(folder).content
    assert first is not None
    os.utime(folder / "b.safetensors", ns=(1, 1))
    assert weights(folder).content is None
    put(record, json.dumps({"path": "/elsewhere", "files": rows}))
    assert weights(folder).content is None


def test_sums_file() -> None:
    parse = checkpoint.parse_sums
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
    assert probe.look_weights({"weights": None}, "") is None
    assert weights(tmp_path / "nothing").exists is False
    found = weights(tmp_path)
    assert (found.exists, found.config, found.shards) == (True, False, 0)


# Chips


ROW = "{0}, Iluvatar BI-V150, 32768 MiB, 64 MiB"
TABLE = "| IX-ML: 4.1.0   Driver Version: 4.1.0   CUDA Version: 10.2 |"


def smi(folder: Path, rows: str, names: str = "", table: str = TABLE, code: int = 0, stderr: str = "") -> Path:
    """A tool that prints what the vendor's prints."""
    for name, text in (("rows", rows), ("names", names), ("table", table), ("stderr", stderr)):
        put(folder / name, text)
    script = f"""#!/bin/sh
case "$*" in
  "") cat {folder}/table ;;
  -L) cat {folder}/names ;;
  *) cat {folder}/rows; cat {folder}/stderr >&2; exit {code} ;;
esac
"""
    path = put(folder / "ixsmi", script)
    path.chmod(0o755)
    return path


def chips(tool: Path | str, **more: object) -> Chips:
    request = {"chip": {**CHIP.model_dump(), "smi": ["/nowhere/ixsmi", str(tool)], **more}}
    return Chips.model_validate(probe.look_chips(request))


def test_healthy_chips(tmp_path: Path) -> None:
    names = "\n".join(f"GPU {number}: Iluvatar BI-V150 (UUID: GPU-{number})" for number in range(3))
    found = chips(smi(tmp_path, "\n".join(ROW.format(number) for number in range(3)), names))
    assert (found.driver, found.error) == ("4.1.0", None)
    assert [(row.index, row.name, row.memory_mib, row.used_mib) for row in found.chips] == [
        (number, "Iluvatar BI-V150", 32768, 64) for number in range(3)
    ]


def test_sick_chip_by_its_uuid(tmp_path: Path) -> None:
    names = "GPU 0: Iluvatar BI-V150 (UUID: GPU-1)\nGPU 1: Iluvatar BI-V150 (UUID: GPU-?????)\n"
    found = chips(smi(tmp_path, f"{ROW.format(0)}\n{ROW.format(1)}\n", names))
    assert found.chips[0].name == "Iluvatar BI-V150"
    assert found.chips[1].name.startswith("GPU 1:") and not found.chips[1].name.startswith(tuple(CHIP.name_prefixes))


@pytest.mark.parametrize(
    "row", ["1, GPU-?????, [Unknown Error], [Unknown Error]", "GPU-?????", "Unable to read 1", ",,,"]
)
def test_row_that_is_no_chip_counts_as_a_sick_one(tmp_path: Path, row: str) -> None:
    found = chips(smi(tmp_path, f"{ROW.format(0)}\n{row}\n"))
    assert len(found.chips) == 2 and found.error is None
    assert not found.chips[1].name.startswith(tuple(CHIP.name_prefixes))


def test_missing_tool(tmp_path: Path) -> None:
    found = chips(tmp_path / "ixsmi")
    assert found.chips == () and "none of /nowhere/ixsmi" in (found.error or "")


def test_tool_that_fails_says_why(tmp_path: Path) -> None:
    tool = smi(tmp_path, "", code=3, stderr="noise\nNVML: driver not loaded\n")
    assert chips(tool).error == f"{tool} fails: NVML: driver not loaded"
    assert chips(smi(tmp_path, "", code=3)).error == f"{tool} fails: exit code 3"


def test_tool_that_cannot_be_run(tmp_path: Path) -> None:
    tool = put(tmp_path / "ixsmi", "#!/no/such/interpreter\n")
    tool.chmod(0o755)
    assert (chips(tool).error or "").startswith(f"{tool}: ")


def test_table_without_a_version(tmp_path: Path) -> None:
    found = chips(smi(tmp_path, ROW.format(0), table="no table today"))
    assert found.driver is None and len(found.chips) == 1


def test_device_nodes_are_counted(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"iluvatar{number}", "")
    assert chips("/nowhere", devices=f"{tmp_path}/iluvatar[0-9]*").devices == 3


FIELDS = st.one_of(
    st.text(max_size=8), st.integers().map(str), st.sampled_from(["GPU-?????", "32768 MiB", "[N/A]", "²"])
)
LINES = st.lists(st.lists(FIELDS, max_size=6).map(", ".join), max_size=5).map("\n".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(LINES.map(str.encode), st.binary(max_size=80)), st.one_of(LINES.map(str.encode), st.binary(max_size=40))
)
def test_whatever_the_tool_prints_there_is_no_exception(rows: bytes, names: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tool = smi(Path(folder), "")
        (Path(folder) / "rows").write_bytes(rows)
        (Path(folder) / "names").write_bytes(names)
        (Path(folder) / "table").write_bytes(names)
        found = chips(tool)
        json.dumps(found.model_dump())


# Network


@pytest.mark.parametrize(
    ("address", "numbers", "ip", "nic"),
    [
        ("127.0.0.1", [], "127.0.0.1", "lo"),
        ("known-to-us-only.invalid", ["192.0.2.7", "127.0.0.1"], "127.0.0.1", "lo"),
        ("known-to-us-only.invalid", ["192.0.2.7"], "192.0.2.7", None),
        ("known-to-nobody.invalid", [], None, None),
    ],
)
def test_the_interface_of_an_address(address: str, numbers: list[str], ip: str | None, nic: str | None) -> None:
    """field.md 3.9: a name may be known to the controller only, which says its numbers."""
    found = probe.look_net({"address": address, "numbers": numbers, "ports": []})
    assert (found["ip"], found["nic"]) == (ip, nic)


# All of it


def test_the_whole_script_prints_one_marked_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = {
        "address": "127.0.0.1", "numbers": [], "cluster": "x", "container": "r1-no-such", "image": "r1-no-such",
        "ports": [1], "state_dir": str(tmp_path / "state"), "folders": [str(tmp_path), "/no/such"],
        "trust_user": "root", "lock": str(tmp_path / "lock"), "remote_tmp": ".r1deploy-tmp",
        "weights": None, "chip": {**CHIP.model_dump(), "smi": ["/nowhere"]}, "seconds": 30, "limit": 1 << 20,
    }  # fmt: skip
    probe.look_engine, before = (lambda: {"ok": False, "error": "not asked"}), probe.look_engine
    try:
        probe.main(json.dumps(request))
    finally:
        probe.look_engine = before
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.startswith("r1probe:")
    from r1deploy.planning.observed import Observed

    found = Observed.model_validate(json.loads(out.removeprefix("r1probe:")))
    assert found.state.exists is False and found.state.folders["/no/such"] is None
    assert list(tmp_path.iterdir()) == [], "the probe writes nothing"
