"""docker-save files, whole and not: made up here byte by byte, in the form of old engines and of new ones."""

from __future__ import annotations

import gzip
import json
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from r1deploy.actions import tarball
from r1deploy.errors import PreflightError
from r1deploy.settings.load import from_profile
from r1deploy.settings.lockfile import LockedImage
from r1deploy.settings.model import Settings
from tests.dockersave import LAYERS, NAME, archive, config_of, saved, sha


def oci() -> bytes:
    """As newer engines save it, with packed layers."""
    packed = [gzip.compress(row) for row in LAYERS]
    config = config_of(LAYERS)
    blob = "blobs/sha256/{}".format
    manifest = [{"Config": blob(sha(config)), "RepoTags": [NAME], "Layers": [blob(sha(row)) for row in packed]}]
    rows = [(blob(sha(config)), config), *((blob(sha(row)), row) for row in packed)]
    return archive([*rows, ("index.json", b"{}"), ("manifest.json", json.dumps(manifest).encode())])


PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def put(folder: Path, data: bytes) -> Path:
    path = folder / "image.tar"
    path.write_bytes(data)
    return path


def refused(path: Path, code: str, words: str, name: str = NAME) -> None:
    with pytest.raises(PreflightError) as caught:
        tarball.inspect(path, name)
    assert caught.value.code == code
    assert words in caught.value.message and caught.value.fix


@pytest.mark.parametrize("packed", PACK)
def test_whole(tmp_path: Path, packed: str) -> None:
    path = put(tmp_path, PACK[packed](saved()))
    seen: list[tuple[int, int]] = []
    found = tarball.inspect(path, NAME, lambda *row: seen.append(row))
    config = config_of(LAYERS)
    assert found == tarball.Tarball(sha(path.read_bytes()), f"sha256:{sha(config)}", "amd64", packed, 2)
    assert seen[-1] == (path.stat().st_size,) * 2


def test_oci_layout_with_packed_layers(tmp_path: Path) -> None:
    assert tarball.inspect(put(tmp_path, oci()), NAME).image_id == f"sha256:{sha(config_of(LAYERS))}"


def test_a_layer_that_occurs_twice_is_a_link(tmp_path: Path) -> None:
    config = config_of([LAYERS[0], LAYERS[0]])
    manifest = [{"Config": f"{sha(config)}.json", "RepoTags": [NAME], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    rows = [
        (f"{sha(config)}.json", config),
        ("a/layer.tar", LAYERS[0]),
        ("manifest.json", json.dumps(manifest).encode()),
    ]
    assert tarball.inspect(put(tmp_path, archive(rows, {"b/layer.tar": "../a/layer.tar"})), NAME).layers == 2


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_cut_anywhere(tmp_path: Path, packed: str, part: float) -> None:
    data = PACK[packed](saved())
    refused(put(tmp_path, data[: int(len(data) * part)]), "TARBALL_DAMAGED", "")


def test_gzip_cut_in_its_last_bytes(tmp_path: Path) -> None:
    refused(put(tmp_path, gzip.compress(saved())[:-6]), "TARBALL_DAMAGED", "end-of-stream")


@pytest.mark.parametrize("packed", PACK)
def test_a_changed_byte_in_a_layer(tmp_path: Path, packed: str) -> None:
    data = bytearray(saved())
    data[data.index(LAYERS[0]) + 20_000] ^= 1
    refused(put(tmp_path, PACK[packed](bytes(data))), "TARBALL_DAMAGED", "0/layer.tar has the sha256")


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_a_changed_byte_in_a_packed_file(tmp_path: Path, packed: str) -> None:
    data = bytearray(PACK[packed](saved()))
    data[len(data) // 2] ^= 0xFF
    refused(put(tmp_path, bytes(data)), "TARBALL_DAMAGED", "")


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (saved("other:1"), "TARBALL_OTHER", "holds other:1, not baai:v5"),
        (archive([("etc/passwd", b"root")]), "TARBALL_OTHER", "docker export"),
        (saved(without={"1/layer.tar"}), "TARBALL_DAMAGED", "1/layer.tar is not in it"),
        (saved(without={"manifest.json"}), "TARBALL_DAMAGED", "no manifest.json"),
        (saved(config=config_of(LAYERS[:1])), "TARBALL_DAMAGED", "configuration"),
        (saved(config=b"[]"), "TARBALL_DAMAGED", "manifest cannot be read"),
        (b"", "TARBALL_DAMAGED", ""),
        (b"hello\n" * 1000, "TARBALL_DAMAGED", ""),
    ],
    ids=["other image", "export", "layer gone", "manifest gone", "config changed", "config no object", "empty", "text"],
)
def test_no_image(tmp_path: Path, data: bytes, code: str, words: str) -> None:
    refused(put(tmp_path, data), code, words)


def images(*rows: tuple[str | None, bytes], index: object = None) -> bytes:
    """A file of several images of one layer each. In: (name, layer); index.json, if any."""
    members, manifest = [], []
    for name, layer in rows:
        config = config_of([layer])
        members += [(f"{sha(config)}.json", config), (f"{sha(layer)}/layer.tar", layer)]
        tags = None if name is None else [name]
        manifest.append({"Config": f"{sha(config)}.json", "RepoTags": tags, "Layers": [f"{sha(layer)}/layer.tar"]})
    extra = [("index.json", json.dumps(index).encode())] if index is not None else []
    return archive([*members, ("manifest.json", json.dumps(manifest).encode()), *extra])


@pytest.mark.parametrize("name", ["ubuntu:22.04", "docker.io/library/ubuntu:22.04", "baai:v6", "other/baai:v5"])
def test_a_second_image_with_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    """field.md 2.12: docker load would move that name."""
    for rows in ([(NAME, b"one"), (name, b"two")], [(name, b"two"), (NAME, b"one")]):
        refused(put(tmp_path, images(*rows)), "TARBALL_OTHER", f"holds {tarball.familiar(name)} too")
    index = {"manifests": [{"annotations": {"io.containerd.image.name": name}}, {}]}
    refused(put(tmp_path, images((NAME, b"one"), index=index)), "TARBALL_OTHER", tarball.familiar(name))


@pytest.mark.parametrize("name", ["docker.io/library/baai:v5", "index.docker.io/library/baai:v5", "docker.io/baai:v5"])
def test_the_same_name_in_full(tmp_path: Path, name: str) -> None:
    """field.md 4.4: docker.io/library/… is what the engine shows without it."""
    index = {"manifests": [{"annotations": {"io.containerd.image.name": "docker.io/library/baai:v5"}}]}
    assert tarball.inspect(put(tmp_path, images((name, b"one"), index=index)), NAME).layers == 1
    assert tarball.inspect(put(tmp_path, saved()), name).layers == 2
    assert tarball.familiar("docker.io/team/x") == "team/x:latest" and tarball.familiar("h:5000/x") == "h:5000/x:latest"


def test_saved_by_its_id(tmp_path: Path) -> None:
    """field.md 4.4: the fix gives it the name."""
    refused(put(tmp_path, images((None, b"one"))), "TARBALL_OTHER", "saved by its id")
    with pytest.raises(PreflightError, match="without a name") as caught:
        tarball.inspect(tmp_path / "image.tar", NAME)
    image = sha(config_of([b"one"]))[:12]
    assert caught.value.fix and f"docker tag {image} {NAME} && docker save" in caught.value.fix


def test_an_oci_archive_is_named(tmp_path: Path) -> None:
    """field.md 4.4: a whole file is not called cut."""
    data = archive([("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), ("index.json", b"{}"), ("blobs/sha256/0", b"")])
    refused(put(tmp_path, data), "TARBALL_OTHER", "is an OCI archive: it is whole")


def members(number: int) -> bytes:
    return tarfile.TarInfo("x").tobuf() * number + bytes(1024)


@pytest.mark.parametrize("packed", PACK)
def test_very_many_files(tmp_path: Path, packed: str) -> None:
    """field.md 2.14: 400 000 empty members are refused within seconds."""
    path = put(tmp_path, PACK[packed](members(400_000 if packed == "zstd" else 25_000)))
    started = time.process_time()
    refused(path, "TARBALL_DAMAGED", "more than")
    assert time.process_time() - started < 8


def test_what_was_read_of_many_files_is_forgotten(tmp_path: Path) -> None:
    """field.md 2.14: the memory does not grow with the members."""
    path = put(tmp_path, members(15_000))
    tracemalloc.start()
    try:
        refused(path, "TARBALL_DAMAGED", "no manifest")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    row = tarfile.TarInfo("x")
    row.pax_headers = {"comment": "x" * (3 << 20)}
    data = row.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    refused(put(tmp_path, zstandard.ZstdCompressor().compress(data)), "TARBALL_DAMAGED", "a header of")


@pytest.mark.parametrize(
    "manifest",
    ["null", "{}", "[[]]", '[{"Config": [], "Layers": [], "RepoTags": ["baai:v5"]}]', "[" * 100_000,
     '[{"Config": "x", "Layers": [[]], "RepoTags": ["baai:v5"]}]', '[{"Config": "x", "Layers": [], "RepoTags": [1]}]'],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_manifests_of_other_shapes(tmp_path: Path, manifest: str) -> None:
    with pytest.raises(PreflightError) as caught:
        tarball.inspect(put(tmp_path, archive([("x", b"{}"), ("manifest.json", manifest.encode())])), NAME)
    assert caught.value.code in ("TARBALL_DAMAGED", "TARBALL_OTHER")


def test_missing(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "TARBALL_MISSING", "no such file")


# Against the lock


def settings_with(path: Path, sha256: str | None = None) -> Settings:
    base = from_profile("iluvatar-bi-v150")
    return base.model_copy(update={"image": base.image.model_copy(update={"tarball": str(path), "sha256": sha256})})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "r1deploy" / "tarballs.json"


def prove(path: Path, image: LockedImage, sha256: str | None = None) -> str:
    try:
        return tarball.prove_tarball(settings_with(path, sha256), image)
    except PreflightError as error:
        assert error.fix
        return error.code


def test_locked_then_changed(tmp_path: Path, cache: Path) -> None:
    path = put(tmp_path, saved())
    image = tarball.lock_image(settings_with(path))
    assert (image.packed, image.arch, image.tarball_sha256) == ("plain", "amd64", sha(path.read_bytes()))
    assert "is the locked one" in prove(path, image)
    # Remembered: the sum that stands in the cache is believed while size, times and inode stay.
    rows = json.loads(cache.read_text())
    rows[str(path)]["sha256"] = "0" * 64
    cache.write_text(json.dumps(rows))
    assert prove(path, image) == "TARBALL_DAMAGED"
    path.write_bytes(saved())
    assert "is the locked one" in prove(path, image)
    path.write_bytes(saved()[:-1] + b"x")
    assert prove(path, image) == "TARBALL_DAMAGED"
    path.unlink()
    assert prove(path, image) == "TARBALL_MISSING"


def test_sha256_of_the_settings(tmp_path: Path, cache: Path) -> None:
    path = put(tmp_path, saved())
    with pytest.raises(PreflightError, match=r"image\.sha256 says"):
        tarball.lock_image(settings_with(path, "1" * 64))
    image = tarball.lock_image(settings_with(path, sha(path.read_bytes())))
    assert prove(path, image, "1" * 64) == "TARBALL_DAMAGED"
