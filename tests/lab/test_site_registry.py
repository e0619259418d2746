"""Pulls from a registry with a login: a stand-in registry on the lab host, the host's real Docker Engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.lab.conftest import HOSTS, Cluster, Ran
from tests.lab.running import apart, refused

pytestmark = [pytest.mark.lab, pytest.mark.long]
PORT = 5055
IMAGE = f"127.0.0.1:{PORT}/vendor/baai:v5"
PASSWORD = "canary-7f3a-registry-password"
STANDIN = Path(__file__).with_name("standin_registry.py")
# Where a login could have been left: files changed since the start, the engine's own and the users' included.
SEARCH = """
find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /var/lib/docker/overlay2 \\) -prune -o \
  -type f -newer /root/pull.start -print0 | xargs -0 -r grep -l -F -e "$0" -e "$1" -- 2>/dev/null
true
"""


@pytest.fixture
def site(ready: Cluster, tmp_path: Path) -> Cluster:
    """The same hosts with a folder of its own that pulls from the stand-in registry of each host."""
    found = apart(ready, tmp_path)
    path = found.folder / "r1deploy.yaml"
    data = yaml.safe_load(path.read_text())
    secret = tmp_path / "password"
    data["image"] = {"name": IMAGE, "registry_user": "robot", "registry_password_file": str(secret)}
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    path.write_text(yaml.safe_dump(data))
    return found


@contextlib.contextmanager
def registry(cluster: Cluster, host: str, image: str, mode: str = "serve") -> Iterator[None]:
    """The stand-in registry on a host, with an image that the host has."""
    cluster.sh(host, f"rm -rf /root/registry; mkdir /root/registry; docker save {image} | tar -x -C /root/registry")
    cluster.lab.exec(host, "sh", "-c", "cat > /root/registry/serve.py", stdin=STANDIN.read_bytes())
    login = f"robot:{PASSWORD}"
    run = f"/root/registry/serve.py {PORT} /root/registry '{login}' {mode} /root/registry/log"
    cluster.sh(host, f"setsid python3 {run} >/root/registry/out 2>&1 & echo $! >/root/registry/pid")
    cluster.sh(
        host, f"for i in $(seq 100); do ss -Hltn 'sport = :{PORT}' | grep -q . && exit 0; sleep 0.2; done; exit 1"
    )
    try:
        yield
    finally:
        cluster.sh(host, "kill $(cat /root/registry/pid); rm -rf /root/registry")


def tiny(cluster: Cluster, host: str, name: str) -> None:
    """An image of a few MB that does not compress."""
    cluster.sh(host, "mkdir -p /root/tiny && head -c 6000000 /dev/urandom > /root/tiny/x")
    cluster.sh(host, f"tar -C /root/tiny -c x | docker import - {name} >/dev/null && rm -r /root/tiny")


def test_pull_with_a_login_that_leaves_no_trace(site: Cluster) -> None:
    # The head has the image under that name already; node2 has to pull it.
    site.sh("node1", f"docker tag baai:v5 {IMAGE}")
    seen = ""
    try:
        with registry(site, "node2", "baai:v5"):
            for host in HOSTS:
                site.sh(host, "touch /root/pull.start")
            watch = "while [ -d /root/registry ]; do ps axwwe; sleep 0.1; done > /root/ps.log 2>&1"
            site.sh("node2", f"setsid sh -c '{watch}' >/dev/null 2>&1 &")
            done = site.r1("bootstrap", "--yes")
            assert done.code == 0, done.text
            log = site.sh("node2", "cat /root/registry/log")
            # The container there still has the layers: the registry is asked for what makes an image of them.
            assert "GET /v2/vendor/baai/manifests/sha256:" in log
            assert "user=robot" in log
            seen = site.sh("node2", "cat /root/ps.log")
        ids = {site.sh(host, f"docker image inspect -f '{{{{.Id}}}}' {IMAGE}") for host in HOSTS}
        assert len(ids) == 1
        assert site.plan() == []
        # The stand-in registry itself has it in its arguments; nothing else may.
        assert "r1guest" in seen or "python3" in seen
        assert [line for line in seen.splitlines() if PASSWORD in line and "serve.py" not in line] == []
        for host in HOSTS:
            found = site.lab.exec(host, "sh", "-c", SEARCH, PASSWORD, "X-Registry-Auth")[1].split()
            # The stand-in's own arguments were seen by ps.
            assert set(found) <= {"/root/ps.log"}
        for path in (*site.folder.rglob("*"), *Path.home().glob(".local/state/r1deploy/runs/lab/*bootstrap.jsonl")):
            if path.is_file() and path.name != "password":
                assert PASSWORD not in path.read_text(errors="replace"), path
        assert PASSWORD not in done.text
    finally:
        for host in HOSTS:
            site.sh(host, f"docker rmi {IMAGE} >/dev/null 2>&1; rm -f /root/ps.log /root/pull.start; true")


@contextlib.contextmanager
def no_leftovers(cluster: Cluster) -> Iterator[None]:
    """Folders of releases that come to nothing go again."""
    top = "/var/lib/r1deploy"
    before = {host: set(cluster.sh(host, f"ls -d {top}/releases/* {top}/trees/*").split()) for host in HOSTS}
    try:
        yield
    finally:
        for host in HOSTS:
            new = set(cluster.sh(host, f"ls -d {top}/releases/* {top}/trees/*").split()) - before[host]
            cluster.sh(host, f"rm -rf {' '.join(new)}")


# 10: the registry's ways to refuse, and a disk that fills up
def test_the_registrys_refusals_are_told_apart(site: Cluster, tmp_path: Path) -> None:
    small = f"127.0.0.1:{PORT}/vendor/tiny:v1"
    tiny(site, "node1", small)
    name = site.settings(image__name=small)
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password")
    wrong.chmod(0o600)

    def pull(env: dict[str, str]) -> Ran:
        return site.r1("bootstrap", "--yes", "--limit", "node1", env=env)

    with no_leftovers(site):
        with registry(site, "node1", small):
            site.sh("node1", f"docker rmi {small} >/dev/null")
            login = name | site.settings(image__registry_password_file=wrong)
            refused(pull(login), 6, "node1", "REGISTRY_AUTH", "image.tarball")
            tag = site.settings(image__name=small.replace("v1", "v2"))
            refused(pull(tag), 6, "node1", "REGISTRY_TAG", "image.name")
            wrong.chmod(0o644)
            refused(pull(login), 5, "REGISTRY_PASSWORD", "chmod 0600")
            refused(site.r1("preflight", env=login), 5, "REGISTRY_PASSWORD")
            site.sh("node1", "mkdir -p /var/lib/docker/tmp && mount -t tmpfs -o size=1m none /var/lib/docker/tmp")
            try:
                refused(pull(name), 6, "node1", "DISK_FULL", "df -h")
            finally:
                site.sh("node1", "umount -l /var/lib/docker/tmp")
        refused(pull(name), 6, "REGISTRY_NO_ROUTE", "image.tarball")
        tiny(site, "node1", small)
        with registry(site, "node1", small, "limit"):
            site.sh("node1", f"docker rmi {small} >/dev/null")
            refused(pull(name), 6, "node1", "REGISTRY_LIMIT", "image.tarball")
