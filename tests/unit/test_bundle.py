"""The bundle's file: what comes out is what went in, and not one byte of it may differ."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from r1deploy import bundle
from r1deploy.bundle import Repository
from r1deploy.errors import PreflightError, UsageError


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small bundle with an odd-sized file, so that the tar has padding."""
    (tmp_path / "lock").write_text("version: 1\n")
    (tmp_path / "image").write_bytes(bytes(range(256)) * 5)
    target = tmp_path / "site.r1"
    row = Repository(name="vllm", url="https://example.com/vllm.git", head="0" * 40, file="git/vllm.bundle")
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


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside-r1", "extra"])
def test_a_member_that_the_manifest_does_not_name(tmp_path: Path, name: str) -> None:
    manifest = bundle.Manifest(r1deploy="1", image="i", repositories=(), files={})
    data = manifest.model_dump_json().encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, content in (("manifest.json", data), (name, b"x")):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    whole = stream.getvalue()
    (tmp_path / "b").write_bytes(whole + hashlib.sha256(whole).hexdigest().encode())
    with pytest.raises(PreflightError, match="does not name"):
        bundle.unpack(tmp_path / "b", tmp_path / "cache")
    assert not (tmp_path / "outside").exists()


def test_a_name_that_the_manifest_gives_but_leads_out(tmp_path: Path) -> None:
    entry = bundle.Entry(size=1, sha256=hashlib.sha256(b"x").hexdigest())
    manifest = bundle.Manifest(r1deploy="1", image="i", repositories=(), files={"../../outside": entry})
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, content in (("manifest.json", manifest.model_dump_json().encode()), ("../../outside", b"x")):
            row = tarfile.TarInfo(member)
            row.size = len(content)
            archive.addfile(row, io.BytesIO(content))
    whole = stream.getvalue()
    (tmp_path / "b").write_bytes(whole + hashlib.sha256(whole).hexdigest().encode())
    with pytest.raises(PreflightError, match="does not name"):
        bundle.unpack(tmp_path / "b", tmp_path / "cache")
    assert not (tmp_path / "outside").exists()
