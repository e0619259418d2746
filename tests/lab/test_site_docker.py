"""Docker as sites have it: root's client points elsewhere, other stores, other addresses (field.md, section 4)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1deploy.settings import lockfile
from tests.lab.conftest import HOSTS, NAME, Cluster

pytestmark = pytest.mark.lab
# What a site's admin leaves in root's home: a context that is in use, and an environment for every shell.
ELSEWHERE = """
docker context create elsewhere --docker host=unix:///run/elsewhere.sock >/dev/null
docker context use elsewhere >/dev/null
cp /root/.bashrc /root/.bashrc.before
{ echo 'export DOCKER_HOST=unix:///run/elsewhere.sock DOCKER_TLS_VERIFY=1 DOCKER_API_VERSION=1.99'
  cat /root/.bashrc.before; } > /root/.bashrc
"""
SOCKET = "docker --host unix:///var/run/docker.sock"
BACK = "rm -rf /root/.docker; test ! -e /root/.bashrc.before || mv /root/.bashrc.before /root/.bashrc"


@pytest.fixture
def elsewhere(ready: Cluster) -> Iterator[Cluster]:
    """Root's docker client talks to another engine on both hosts, one that does not answer."""
    try:
        for host in HOSTS:
            ready.sh(host, ELSEWHERE)
        yield ready
    finally:
        for host in HOSTS:
            ready.sh(host, BACK)


def test_every_verb_talks_to_the_engine_of_the_socket(elsewhere: Cluster) -> None:
    """field.md 4.1: a context of root's, DOCKER_HOST and its siblings in root's environment."""
    assert elsewhere.lab.exec("node2", "docker", "ps")[0] != 0, "the client has to be led elsewhere"
    elsewhere.sh("node2", f"{SOCKET} rm -f $({SOCKET} ps -aq) >/dev/null")
    for verb in (["bootstrap", "--yes"], ["serve"]):
        done = elsewhere.r1(*verb)
        assert done.code == 0, done.text
    assert elsewhere.plan() == []
    done = elsewhere.r1("exec", "--", "sh", "-c", "echo $HOSTNAME is inside of /.dockerenv; ls /.dockerenv")
    assert done.code == 0 and all(f"{host} | /.dockerenv" in done.out for host in HOSTS), done.text
    done = elsewhere.r1("stop")
    assert done.code == 0, done.text
    running = elsewhere.sh("node1", SOCKET + " ps --format '{{.Names}}'")
    assert running.split() == [NAME]


# An engine with containerd's image store, in the place of the host's own one, which goes on beside it.
STORE = """
set -e
mkdir -p /var/lib/docker/store /run/store
echo '{"features": {"containerd-snapshotter": true}}' > /run/store/daemon.json
mv /run/docker.sock /run/store/own.sock
# Without a bridge of its own it would take docker0 away, which is the other engine's.
ip link add store0 type bridge && ip addr add 10.77.0.1/24 dev store0
setsid /usr/sbin/dockerd --config-file /run/store/daemon.json --storage-driver overlayfs --bridge store0 \
  --iptables=false --data-root /var/lib/docker/store --exec-root /run/store/exec --pidfile /run/store/pid \
  >/run/store/log 2>&1 </dev/null &
for _ in $(seq 60); do docker info >/dev/null 2>&1 && break; sleep 0.5; done
docker info -f '{{.DriverStatus}}' | grep io.containerd.snapshotter || { tail -n 20 /run/store/log; exit 1; }
"""
OWN_AGAIN = """
docker ps -aq | xargs -r docker rm -f >/dev/null
test ! -e /run/store/pid || kill $(cat /run/store/pid)
for _ in $(seq 60); do test -e /run/store/pid || break; sleep 0.5; done
mv /run/store/own.sock /run/docker.sock
rm -rf /run/store /var/lib/docker/store
ip link del store0
docker ps -aq | xargs -r docker start >/dev/null
"""


@pytest.fixture
def mixed(ready: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """A site of its own whose node2 has an engine with containerd's image store, and nothing in it yet."""
    for name in ("r1deploy.yaml", "inventory.ini", "r1deploy.lock"):
        shutil.copy(ready.folder / name, tmp_path)
    try:
        ready.sh("node2", "docker ps -aq | xargs -r docker stop -t 1 >/dev/null;" + STORE)
        yield Cluster(ready.lab, tmp_path)
    finally:
        ready.sh("node2", "test ! -e /run/store/own.sock || {" + OWN_AGAIN + "}")


def relock(site: Cluster, **image: str | None) -> None:
    """Change what a site's lock says of the image; None takes a value away."""
    path = site.folder / lockfile.FILE_NAME
    lock = lockfile.read(path)
    assert lock is not None and lock.image is not None
    lockfile.write(path, lock.model_copy(update={"image": lock.image.model_copy(update=image)}))


@pytest.mark.long
def test_an_image_is_the_same_in_either_kind_of_store(mixed: Cluster) -> None:
    """field.md 4.2: node1 names the image by its configuration, node2 by its manifest."""
    whole = lockfile.read(mixed.folder / lockfile.FILE_NAME)
    assert whole is not None and whole.image is not None and whole.image.manifest is not None
    assert {(row["host"], row["step"]) for row in mixed.plan()} >= {("node2", "image"), ("node2", "container")}
    done = mixed.r1("bootstrap", "--yes")
    assert done.code == 0, done.text
    assert mixed.plan() == []
    called = [mixed.sh(host, "docker image inspect -f '{{.Id}}' baai:v5").strip() for host in HOSTS]
    assert called == [whole.image.id, whole.image.manifest]
    for verb in ("serve", "stop"):
        done = mixed.r1(verb)
        assert done.code == 0, done.text
    # A lock of an older r1deploy knows the configuration only.
    relock(mixed, manifest=None)
    assert [(row["host"], row["step"]) for row in mixed.plan() if row["step"] == "image"] == [("node2", "image")]
    done = mixed.r1("bootstrap", "--yes")
    assert done.code == 6 and "IMAGE_OTHER" in done.text and "node2" in done.text, done.text
    done = mixed.r1("bootstrap", "--upgrade", "image", "--yes")
    assert done.code == 0 and lockfile.read(mixed.folder / lockfile.FILE_NAME) == whole, done.text
    assert mixed.plan() == []
    # What was loaded is neither of the digests that the lock has.
    relock(mixed, id="sha256:" + "1" * 64, manifest="sha256:" + "2" * 64)
    done = mixed.r1("bootstrap", "--yes")
    assert done.code == 6 and "IMAGE_OTHER" in done.text and "bootstrap --upgrade" in done.text, done.text
