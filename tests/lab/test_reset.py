"""reset leaves a host as it was before; hosts come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.conftest import HOSTS, Cluster
from tests.lab.running import apart, refused

pytestmark = pytest.mark.lab
# Everything but what the engine, kernel and logs own. Times of folders change when something in them came and went.
TREE = """
find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/lib/docker -o -path /var/log \
  -o -path /var/lib/containerd -o -path /run \\) -prune -o -type f -printf '%p %s %m %U %T@\\n' -o \
  -type d -printf '%p %m %U\\n' \
  | sort
ls -A /run/r1deploy 2>/dev/null || true
docker ps -aq
"""


def tree(cluster: Cluster) -> dict[str, list[str]]:
    return {host: cluster.sh(host, TREE).splitlines() for host in HOSTS}


def test_reset_asks_for_the_name(ready: Cluster) -> None:
    before = ready.fingerprint()
    refused(ready.r1("reset"), 2, "RESET_NAME", "reset --yes lab")
    refused(ready.r1("reset", "--yes", "other"), 2, "RESET_NAME", "called lab")
    assert ready.fingerprint() == before


@pytest.mark.faults
def test_a_worker_goes_and_comes(ready: Cluster, tmp_path: Path) -> None:
    """One host down: nothing begins, unless told; taken out and put back are ordinary runs."""
    assert ready.r1("bootstrap", "--yes").code == 0
    inventory = ready.folder / "inventory.ini"
    text = inventory.read_text()
    ready.lab.halt("node2")
    try:
        before = ready.sh("node1", "ls -lR /var/lib/r1deploy | sha256sum")
        ready.sh("node1", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
        refused(ready.r1("bootstrap", "--yes"), 4, "node2", "nothing was begun")
        status = ready.r1("status")
        assert status.code == 0 and "node2" in status.out
        # field.md 6.7: nothing runs here; whether it does on node2 is not known.
        refused(ready.r1("stop"), 4, "not known of node2")
        done = ready.r1("bootstrap", "--yes", "--skip-unreachable")
        assert done.code == 0, done.err
        assert "Not ready to serve: node2 was skipped." in done.text
        assert ready.sh("node1", "ls -lR /var/lib/r1deploy | sha256sum") != before
        refused(ready.r1("bootstrap", "--yes", "--skip-unreachable", "--set", "builder=node2"), 4, "node2")
        # Without the dead worker, half of the chips.
        inventory.write_text("".join(line for line in text.splitlines(True) if not line.startswith("node2")))
        alone = ["--set", "engine.pipeline_parallel_size=2"]
        done = ready.r1("bootstrap", "--yes", *alone)
        assert done.code == 0, done.err
        assert "all 1 hosts" in done.out
        assert ready.r1("serve", *alone).code == 0
        assert ready.r1("stop", *alone).code == 0
    finally:
        inventory.write_text(text)
        ready.lab.up(2)
    done = ready.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    assert ready.plan() == []


def test_skip_unreachable_never_skips_the_head(ready: Cluster, tmp_path: Path) -> None:
    site = apart(ready, tmp_path)
    text = (site.folder / "inventory.ini").read_text()
    first = ready.lab.hosts()[0].address
    (site.folder / "inventory.ini").write_text(text.replace(f"{first} ", f"{first} ansible_port=2222 ", 1))
    refused(site.r1("bootstrap", "--yes", "--skip-unreachable"), 4, "node1", "SSH_REFUSED")


def test_reset_leaves_the_hosts_as_before_bootstrap(cluster: Cluster) -> None:
    """The last one here: it leaves nothing for the others."""
    cluster.wipe()
    for host in HOSTS:
        cluster.sh(host, "rm -rf /root/.r1deploy-tmp /run/r1deploy")
    before = tree(cluster)
    done = cluster.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    assert cluster.r1("serve").code == 0
    assert tree(cluster) != before
    done = cluster.r1("reset", "--yes", "lab")
    assert done.code == 0, done.err
    assert "Removed lab from 2 hosts." in done.out
    after = tree(cluster)
    for host in HOSTS:
        # The login's authorized_keys is a file that others share: its line is gone, its time has moved.
        gone = [row for row in before[host] if row not in after[host] and "authorized_keys" not in row]
        new = [row for row in after[host] if row not in before[host] and "authorized_keys" not in row]
        assert (gone, new) == ([], []), host
        assert "r1deploy:" not in cluster.sh(host, "cat /root/.ssh/authorized_keys")
        assert cluster.sh(host, "docker images -q baai:v5").strip(), "the image stays"
