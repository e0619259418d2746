"""The bundle's file: what comes out is what went in, and not one byte of it may differ."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from r1deploy.errors import PreflightError, UsageError
from r1deploy.inputs import bundlefile as bundle
from r1deploy.inputs.bundlefile import Repository


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small bundle with an odd-sized file, so that the tar has padding."""
    (tmp_path / "lock").write_text("version: 1\n")
    (tmp_path / "image").write_bytes(bytes(range(256)) * 5)
    target = tmp_path / "site.r1"
    row = Repository(name="vllm", url="https://example.com/vllm.git", head="0" * 40, file="image/image.tar")
    files = {bundle.LOCK: tmp_path / "lock", "image/image.tar": tmp_path / "image"}
    digest = bundle.write(target, "baai:v5", (row,), files, "1.2.3")
    assert digest == hashlib.sha256(target.read_bytes()).hexdigest()
    return target


def test_round_trip(made: Path, tmp_path: Path) -> None:
    found = bundle.unpack(made, tmp_path / "cache")
    assert found.path("image/image.tar").read_bytes() == (tmp_path / "image").read_bytes()
    assert found.manifest.image == "baai:v5"
    assert found.mirror(found.manifest.repositories[0]).name == "vllm.git"
    assert bundle.opened(found.folder, tmp_path / "bundle") == found
    assert bundle.unpack(made, tmp_path / "cache") == found
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [found.folder.name]
    with tarfile.open(made) as archive:  # plain tar reads it too
        assert archive.getnames() == ["manifest.json", bundle.LOCK, "image/image.tar"]


def test_every_changed_byte_is_found(made: Path, tmp_path: Path) -> None:
    good = made.read_bytes()
    for place in (*range(0, len(good), 97), *range(len(good) - 70, len(good))):
        made.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(PreflightError) as refused:
            bundle.unpack(made, tmp_path / "cache")
        assert refused.value.code == "BUNDLE_DAMAGED", place
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("keep", [0, 10, 64, 512, 2000, -65, -1])
def test_a_cut_bundle(made: Path, tmp_path: Path, keep: int) -> None:
    made.write_bytes(made.read_bytes()[:keep])
    with pytest.raises(PreflightError, match=r"site\.r1"):
        bundle.unpack(made, tmp_path / "cache")


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        bundle.unpack(tmp_path / "nothing", tmp_path / "cache")
    (tmp_path / "text").write_text("x" * 4000)
    with pytest.raises(PreflightError):
        bundle.unpack(tmp_path / "text", tmp_path / "cache")
    with pytest.raises(UsageError, match="is gone"):
        bundle.opened(tmp_path / "cache" / "0123", tmp_path / "bundle")


GOOD = {bundle.LOCK: b"version: 1\n", bundle.IMAGE: b"image"}
X = hashlib.sha256(b"x").hexdigest()


def forged(folder: Path, members: list[tuple[str | tarfile.TarInfo, bytes]], **changed: Any) -> Path:
    """A bundle with a right sha256 at its end. In: members besides the good ones, values of the manifest."""
    files = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in GOOD.items()}
    manifest = {"schema_": 1, "r1deploy": "1", "image": "i", "repositories": [], "files": files}
    manifest |= {"files": {**files, **changed.pop("files", {})}} | changed
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in [("manifest.json", json.dumps(manifest).encode()), *GOOD.items(), *members]:
            entry = tarfile.TarInfo(name) if isinstance(name, str) else name
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    whole = stream.getvalue()
    (folder / "b").write_bytes(whole + hashlib.sha256(whole).hexdigest().encode())
    return folder / "b"


def refused(folder: Path, words: str) -> None:
    """``b`` is damaged, and nothing was written, in the cache or beside it."""
    (folder / "cache").mkdir(exist_ok=True)
    before = sorted(folder.rglob("*"))
    with pytest.raises(PreflightError, match=words) as caught:
        bundle.unpack(folder / "b", folder / "cache")
    assert caught.value.code == "BUNDLE_DAMAGED" and caught.value.fix
    assert sorted(folder.rglob("*")) == before


def test_the_forged_one_is_good_without_a_change(tmp_path: Path) -> None:
    found = bundle.unpack(forged(tmp_path, []), tmp_path / "cache")
    assert found.path(bundle.LOCK).read_bytes() == GOOD[bundle.LOCK]


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside-r1", "extra", bundle.LOCK])
def test_a_member_that_the_manifest_does_not_name(tmp_path: Path, name: str) -> None:
    forged(tmp_path, [(name, b"x")])
    refused(tmp_path, "does not name")


@pytest.mark.parametrize("name", ["../../outside", "/tmp/x", "", ".", "a/../b", "a//b", "a/", "a\nb", "manifest.json"])
def test_names_in_the_manifest(tmp_path: Path, name: str) -> None:
    """field.md 2.11: names that lead out, or are none."""
    forged(tmp_path, [(name, b"x")], files={name: {"size": 1, "sha256": X}})
    refused(tmp_path, "manifest cannot be read")


@pytest.mark.parametrize(
    "row",
    [
        {"name": "../../x"},
        {"name": ""},
        {"name": "."},
        {"name": "a/b"},
        {"head": "--x"},
        {"file": "nowhere"},
        {"url": ""},
    ],
    ids=str,
)
def test_repositories_in_the_manifest(tmp_path: Path, row: dict[str, str]) -> None:
    """field.md 2.11: the second repository's name decides what is removed and written."""
    good = {"name": "vllm", "url": "https://h/x", "head": "0" * 40, "file": bundle.LOCK}
    forged(tmp_path, [], repositories=[good, {**good, "name": "other", **row}])
    refused(tmp_path, "manifest cannot be read")
    forged(tmp_path, [], repositories=[good, {**good, "name": "VLLM"}])
    refused(tmp_path, "two repositories of one name")


@pytest.mark.parametrize("name", [bundle.LOCK, bundle.IMAGE])
def test_what_has_to_be_inside(tmp_path: Path, name: str) -> None:
    """field.md 2.11: a bundle without a lock."""
    forged(tmp_path, [], files={name: {"size": -1, "sha256": X}})
    refused(tmp_path, "manifest cannot be read")
    rest = {key: {"size": 1, "sha256": X} for key in GOOD if key != name}
    with pytest.raises(pydantic.ValidationError, match=f"does not name {name}"):
        bundle.Manifest.model_validate({"r1deploy": "1", "image": "i", "repositories": [], "files": rest})


def test_sizes_are_enforced_while_reading(tmp_path: Path) -> None:
    """field.md 2.11: 10 KB that unpack to 400 MiB; sizes that are not the manifest's."""
    forged(tmp_path, [("big", b"x" * 5000)], files={"big": {"size": 1, "sha256": X}})
    refused(tmp_path, "big has 5000 bytes, its manifest says 1")
    forged(tmp_path, [], files={"big": {"size": 400 << 20, "sha256": X}})
    refused(tmp_path, "larger than it is")
    sparse = tarfile.TarInfo("big")
    sparse.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1",
                          "GNU.sparse.size": str(9000), "GNU.sparse.realsize": str(9000)}  # fmt: skip
    forged(tmp_path, [(sparse, b"x")], files={"big": {"size": 9000, "sha256": X}})
    refused(tmp_path, "does not name|larger|bytes")


def test_a_manifest_and_headers_of_many_megabytes(tmp_path: Path) -> None:
    """field.md 2.11: what is read into memory is bounded."""
    forged(tmp_path, [], image="i" * (5 << 20))
    refused(tmp_path, "its manifest has 5")
    long = tarfile.TarInfo("x")
    long.pax_headers = {"comment": "x" * (3 << 20)}
    forged(tmp_path, [(long, b"")])
    refused(tmp_path, "a header of 3")


@given(st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 255)), min_size=1, max_size=20))
@fuzz(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")), deadline=None)
def test_any_bytes_are_a_bundle_or_damage(changes: list[tuple[int, int]]) -> None:
    """field.md 2.11: with the sha256 made right again, as somebody would who means it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = bytearray(forged(folder, []).read_bytes()[: -bundle.TRAILER])
        for at, byte in changes:
            data[at % len(data)] = byte
        (folder / "b").write_bytes(bytes(data) + hashlib.sha256(data).hexdigest().encode())
        try:
            bundle.unpack(folder / "b", folder / "cache")
        except PreflightError as error:
            assert error.code == "BUNDLE_DAMAGED"
        assert {path.name for path in folder.iterdir()} <= {"b", "cache"}
