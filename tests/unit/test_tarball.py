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

from r1deploy.errors import PreflightError
from r1deploy.inputs import manifest, tarball
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
    called = manifest.written(
        (f"sha256:{sha(config)}", len(config)), [(f"sha256:{sha(row)}", len(row), False) for row in LAYERS]
    )
    assert found == tarball.Tarball(sha(path.read_bytes()), f"sha256:{sha(config)}", called, "amd64", packed, 2)
    assert seen[-1] == (path.stat().st_size,) * 2


def test_oci_layout_with_packed_layers(tmp_path: Path) -> None:
    assert tarball.inspect(put(tmp_path, oci()), NAME).image_id == f"sha256:{sha(config_of(LAYERS))}"


def test_what_containerd_calls_an_image_that_brings_no_manifest() -> None:
    """field.md 4.2: the numbers of a file of Docker 20.10, and what Docker 26.1.5 with containerd's store called it."""
    layers = [
        ("sha256:63ba63d540a59a7419e899b36d285d9816de420868916db280d908b3a6ae1130", 422376960, False),
        ("sha256:21019bb9507a720d500120be334a6c3c40b52607fb39d800886233c2b6287a0b", 47616, False),
        ("sha256:93fb48dae9655d07d2c21925c48be77c749b9fadf91854d68e1d4776bab46102", 21504, False),
    ]
    config = ("sha256:9c827b6b30fedfb29d30ae803a1e7cec33f4d77b59d510bfd898b1fbe00a7534", 2814)
    called = "sha256:309db706b4f373e43e4c1bec5fb80a79d19e603e20d541fb74f24b0990403d26"
    assert manifest.written(config, layers) == called
    assert manifest.written(config, [(*layers[0][:2], True), *layers[1:]]) != called


def layout(leads_to: str | None = None, index: bytes | None = None, nested: bool = False) -> tuple[bytes, str]:
    """An OCI layout that manifest.json describes too, and the digest that its index names."""
    config = config_of(LAYERS)
    blobs = [config, *LAYERS]
    named = json.dumps({"schemaVersion": 2, "config": {"digest": leads_to or f"sha256:{sha(config)}"}}).encode()
    blobs.append(named)
    if nested:
        named = json.dumps({"schemaVersion": 2, "manifests": [{"digest": f"sha256:{sha(named)}"}]}).encode()
        blobs.append(named)
    others = [{"digest": "sha256:" + "0" * 64}, {"digest": f"sha256:{sha(LAYERS[0])[::-1]}"}]
    listed = json.dumps({"manifests": [*others, {"digest": f"sha256:{sha(named)}"}]}).encode()
    places = [f"blobs/sha256/{sha(row)}" for row in blobs]
    row = {"Config": places[0], "RepoTags": [NAME], "Layers": places[1:3]}
    rest = [
        ("index.json", listed if index is None else index),
        ("oci-layout", b"{}"),
        ("manifest.json", json.dumps([row]).encode()),
    ]
    return archive([*zip(places, blobs, strict=True), *rest]), f"sha256:{sha(named)}"


@pytest.mark.parametrize("nested", [False, True])
def test_an_oci_layout_brings_its_own_manifest(tmp_path: Path, nested: bool) -> None:
    """field.md 4.2"""
    data, digest = layout(nested=nested)
    found = tarball.inspect(put(tmp_path, data), NAME)
    assert (found.image_id, found.manifest) == (f"sha256:{sha(config_of(LAYERS))}", digest)


def test_an_index_that_leads_elsewhere_names_no_manifest(tmp_path: Path) -> None:
    assert tarball.inspect(put(tmp_path, layout("sha256:" + "1" * 64)[0]), NAME).manifest is None


@pytest.mark.parametrize("index", [b"", b"[]", b'{"manifests": [1]}', b'{"manifests": [{"digest": null}]}', b"\xff"])
def test_an_index_that_cannot_be_read(tmp_path: Path, index: bytes) -> None:
    refused(put(tmp_path, layout(index=index)[0]), "TARBALL_DAMAGED", "cannot be read")


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
    assert image.digests == (image.id, image.manifest) and image.manifest
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
