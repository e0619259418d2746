"""Air-gap: a bundle made where there is internet, and lab hosts that reach nothing but each other."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1deploy.lab import places
from r1deploy.lab.labcluster import answers
from r1deploy.lab.places import VENDOR_IMAGE, network_prefix
from tests.lab.conftest import HOSTS, Cluster
from tests.lab.running import apart, refused

pytestmark = [pytest.mark.lab, pytest.mark.long]
NET = network_prefix()


@contextlib.contextmanager
def air_gap(cluster: Cluster) -> Iterator[None]:
    """The hosts reach each other and this machine only, and nobody reaches the upstreams."""
    chain = "iptables -N GAP; iptables -A GAP -o lo -j RETURN; "
    chain += "".join(f"iptables -A GAP -d {NET}.{end} -j RETURN; " for end in (1, 11, 12))
    upstream = cluster.lab._need().containers.get(places.UPSTREAM)
    upstream.stop(timeout=1)
    try:
        for host in HOSTS:
            cluster.sh(host, chain + "iptables -A GAP -j REJECT; iptables -I OUTPUT -j GAP")
        yield
    finally:
        upstream.start()
        until = time.monotonic() + 30
        while not answers(places.upstream_address(), 9418) and time.monotonic() < until:
            time.sleep(0.2)
        for host in HOSTS:
            cluster.sh(host, "iptables -D OUTPUT -j GAP; iptables -F GAP; iptables -X GAP")


def test_bootstrap_from_a_bundle_without_internet(
    ready: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(ready.folder / "r1deploy.yaml", outside)
    file = tmp_path / "site.r1"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-outside"))
    done = Cluster(ready.lab, outside).r1("bundle", "create", str(file))
    assert done.code == 0, done.text
    assert (outside / "r1deploy.lock").exists()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-inside"))
    (tmp_path / "inside").mkdir()
    inside = apart(ready, tmp_path / "inside")
    path = inside.folder / "r1deploy.yaml"
    # The tarball comes from the bundle as well.
    path.write_text(
        path.read_text().replace(f"  tarball: {ready.lab.layout.tarball_of(VENDOR_IMAGE)}\n", "  registry_user: null\n")
    )
    with air_gap(ready):
        assert ready.lab.exec("node1", "git", "ls-remote", f"git://{NET}.2/vllm.git")[0] != 0
        refuse_bad_bundles(inside, file, tmp_path)
        ready.wipe()
        ready.sh("node2", "docker rmi -f baai:v5 >/dev/null")
        done = inside.r1("bootstrap", "--yes", "--bundle", str(file))
        assert done.code == 0, done.text
        # Later verbs remember it, and what would ask the internet asks the bundle.
        assert inside.plan() == []
        done = inside.r1("preflight", "-v")
        assert done.code == 0, done.text
        assert "deepseek_release_iluvatar" in done.text
    assert (inside.folder / "r1deploy.lock").read_text() == (outside / "r1deploy.lock").read_text()
    ids = {ready.sh(host, "docker image inspect -f '{{.Id}}' baai:v5") for host in HOSTS}
    assert len(ids) == 1


def refuse_bad_bundles(inside: Cluster, file: Path, tmp_path: Path) -> None:
    """One byte changed, another deployment, no file: refused before any host is looked at, and nothing is kept."""
    before = inside.fingerprint()
    place = file.stat().st_size // 2
    with file.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte[0] ^ 1]))
    refused(inside.r1("bootstrap", "--yes", "--bundle", str(file)), 5, "BUNDLE_DAMAGED", "image/image.tar")
    assert not list((tmp_path / "cache-inside" / "r1deploy" / "bundles").glob("*/files"))
    assert not (inside.folder / "r1deploy.lock").exists()
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(byte)
    refused(inside.r1("bootstrap", "--yes", "--bundle", "nowhere.r1"), 2, "BUNDLE_MISSING")
    lock = inside.folder / "r1deploy.lock"
    text = (tmp_path / "outside" / "r1deploy.lock").read_text()
    commit = next(line.split(": ")[1] for line in text.splitlines() if "commit: " in line)
    lock.write_text(text.replace(commit, "0" * 40, 1))
    refused(inside.r1("bootstrap", "--yes", "--bundle", str(file)), 3, "BUNDLE_OTHER", "r1deploy.lock")
    lock.unlink()
    refused(inside.r1("bootstrap", "--yes"), 5, "GIT_NO_ROUTE")
    assert inside.fingerprint() == before
