"""What comes by mail: tarballs that are not what they should be, and a delivery checked before anything is booked."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.dockersave import LAYERS, saved, sha
from tests.lab.conftest import HOSTS, Cluster, Ran
from tests.lab.test_weights import SHARDS, checkpoint

pytestmark = [pytest.mark.lab, pytest.mark.long]
SMALL = "r1mailed:1"
STATE = "/var/lib/r1mailed"


def layer() -> bytes:
    """A file system of one file of 3 MiB."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("some/file")
        entry.size = 3 << 20
        archive.addfile(entry, io.BytesIO(LAYERS[0] * (entry.size // len(LAYERS[0]) + 1)))
    return stream.getvalue()


IMAGE = saved(SMALL, [layer()])


@pytest.fixture
def mailed(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """The same hosts with another, small image, and names and folders of their own."""
    text = (cluster.folder / "r1deploy.yaml").read_text()
    (tmp_path / "r1deploy.yaml").write_text(text)
    shutil.copy(cluster.folder / "inventory.ini", tmp_path)
    yield Cluster(cluster.lab, tmp_path)
    for host in HOSTS:
        cluster.sh(
            host,
            f"umount /var/lib/docker/tmp {STATE} 2>/dev/null; docker ps -aq --filter label=r1deploy.cluster=mailed "
            f"| xargs -r docker rm -f >/dev/null; docker rmi -f {SMALL} >/dev/null 2>&1; rm -rf {STATE}",
        )


def bootstrap(site: Cluster, tarball: Path, *more: str) -> Ran:
    sets = (
        "cluster=mailed", "container.name=mailed", f"state_dir={STATE}", f"image.name={SMALL}",
        f"image.tarball={tarball}", "disk.state_gib=0", *more,
    )  # fmt: skip
    return site.r1("bootstrap", "--yes", *(word for item in sets for word in ("--set", item)))


def refused(done: Ran, exit_code: int, *words: str) -> None:
    assert done.code == exit_code, done.text
    for word in words:
        assert word in done.text, (word, done.text)
    assert "Traceback" not in done.text


def untouched(site: Cluster) -> None:
    """No host has our folder or the image."""
    for host in HOSTS:
        assert site.sh(host, f"ls -d {STATE} 2>/dev/null; docker images -q {SMALL}") == ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (IMAGE[: len(IMAGE) // 2], ("TARBALL_DAMAGED", "unexpected end of data")),
        (gzip.compress(IMAGE)[:-900], ("TARBALL_DAMAGED", "end-of-stream")),
        (saved("other:2"), ("TARBALL_OTHER", "holds other:2, not r1mailed:1")),
        (saved(SMALL, [layer()], arch="arm64"), ("IMAGE_ARCH", "the image is for arm64, the host is amd64")),
    ],
    ids=["cut", "gzip cut", "other image", "other architecture"],
)
def test_bad_tarball_is_refused_before_any_host_changes(mailed: Cluster, data: bytes, words: tuple[str, ...]) -> None:
    path = mailed.folder / "image.tar"
    path.write_bytes(data)
    refused(bootstrap(mailed, path), 5, *words)
    untouched(mailed)


def test_other_sha256(mailed: Cluster) -> None:
    path = mailed.folder / "image.tar"
    path.write_bytes(IMAGE)
    refused(bootstrap(mailed, path, f"image.sha256={'1' * 64}"), 5, "TARBALL_DAMAGED", "image.sha256 says 1111")
    untouched(mailed)


def test_disk_full_while_the_image_is_loaded(mailed: Cluster) -> None:
    path, mount = mailed.folder / "image.tar", "/var/lib/docker/tmp"
    path.write_bytes(IMAGE)
    mailed.sh("node2", f"mkdir -p {mount} && mount -t tmpfs -o size=1m tmpfs {mount}")
    before = mailed.sh("node2", "ls /var/lib/docker/overlay2")
    refused(bootstrap(mailed, path), 6, "DISK_FULL", "node2: image: its disk is full")
    assert mailed.sh("node2", f"docker images -q {SMALL}; ls {mount}; find {STATE} -size +99k") == ""
    assert mailed.sh("node2", "ls /var/lib/docker/overlay2") == before
    kept = mailed.sh("node2", f"ls -A {STATE}").split()
    assert sorted(kept) == ["bin", "history.jsonl", "releases", "trees", "trust"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_packed_tarball_is_loaded_as_it_is(mailed: Cluster, pack: object) -> None:
    path = mailed.folder / "image.tar"
    path.write_bytes(pack(IMAGE))  # type: ignore[operator]
    done = bootstrap(mailed, path)
    # The image has no bash in it: what is asked for here is that it came, and that the container is what fails.
    refused(done, 6, "container:")
    for host in HOSTS:
        assert mailed.sh(host, f"docker images -q --no-trunc {SMALL}").startswith("sha256:")
        assert mailed.sh(host, f"find {STATE} -name 'incoming*'") == ""


@pytest.fixture
def delivery(cluster: Cluster, tmp_path: Path) -> Path:
    """A whole delivery: a small image of the right name, the lab's key, a small checkpoint."""
    folder = tmp_path / "delivery"
    (folder / "key").mkdir(parents=True)
    (folder / "weights").mkdir()
    (folder / "image.tar.gz").write_bytes(gzip.compress(saved("baai:v5")))
    shutil.copy(cluster.lab.layout.vendor_key, folder / "key" / "private_key.pem")
    (folder / "key" / "private_key.pem").chmod(0o600)
    for name, data in checkpoint(4096).items():
        (folder / "weights" / name).write_bytes(data)
    rows = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    text = "".join(f"{sha(path.read_bytes())}  {path.relative_to(folder)}\n" for path in rows)
    (folder / "SHA256SUMS").write_text(text)
    shutil.copy(cluster.folder / "r1deploy.yaml", tmp_path)
    return folder


def test_whole_delivery(cluster: Cluster, delivery: Path) -> None:
    site = Cluster(cluster.lab, delivery.parent)
    done = site.r1("vendor", "check", str(delivery), "--json")
    assert done.code == 0, done.out + done.err
    found = {row["name"]: row["detail"] for row in json.loads(done.out)["checks"]}
    assert set(found) == {"sha256", "image", "key", "weights", "weights fit"}
    assert "the key decrypts 2 patches" in found["key"] and "7 files have theirs" in found["sha256"]
    assert not (delivery.parent / "r1deploy.lock").exists()


def test_delivery_with_faults(cluster: Cluster, delivery: Path) -> None:
    site = Cluster(cluster.lab, delivery.parent)
    (delivery / "image.tar.gz").write_bytes(gzip.compress(saved("baai:v4")))
    (delivery / "key" / "private_key.pem").chmod(0o644)
    (delivery / "weights" / SHARDS[0]).unlink()
    done = site.r1("vendor", "check", str(delivery))
    refused(done, 5, "DELIVERY_DAMAGED", f"no weights/{SHARDS[0]}", "image.tar.gz has another", "4 failed")
    refused(done, 5, "TARBALL_OTHER", "holds baai:v4", "KEY_MODE", "chmod 0600", "WEIGHTS_DAMAGED", "delivery: key")
    for name in ("key", "weights", "image.tar.gz", "SHA256SUMS"):
        path = delivery / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = site.r1("vendor", "check", str(delivery), "--without", "weights")
    refused(done, 5, "TARBALL_MISSING", "KEY_MISSING", "2 checks, 2 failed")


def test_delivery_against_the_lock(ready: Cluster, delivery: Path) -> None:
    done = ready.r1("vendor", "check", str(delivery), "--without", "weights")
    refused(done, 5, "IMAGE_OTHER", "r1deploy.lock says", "the key decrypts 2 patches")
