"""Docker as sites have it: root's client points elsewhere, other stores, other addresses (field.md, section 4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
