"""The image on real hosts: from one to the next, into their Docker Engines, with nothing on their disks beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.conftest import HOSTS, Cluster
from tests.lab.running import Running

pytestmark = [pytest.mark.lab, pytest.mark.long]
IMAGE = "baai:v5"
REMOVED = f"docker ps -aq | xargs -r docker rm -f >/dev/null; docker rmi -f {IMAGE} >/dev/null 2>&1 || true"
ID = f"docker image inspect --format '{{{{.Id}}}}' {IMAGE} 2>/dev/null || true"
# Processes of a relay: its name is the last word of the command.
RELAYS = "ps -eo args | grep -E '[ ]relay$' || true"
SENT = "cat /sys/class/net/*/statistics/tx_bytes | sort -n | tail -1"


@pytest.fixture
def without(ready: Cluster) -> Iterator[Cluster]:
    """A cluster whose hosts lack the image; afterwards all is as it was."""
    for host in HOSTS:
        ready.sh(host, REMOVED)
    yield ready
    if ready.plan():
        assert ready.r1("bootstrap", "--yes").code == 0


def ids(cluster: Cluster) -> set[str]:
    return {cluster.sh(host, ID).strip() for host in HOSTS}


def test_all_hosts_get_it_and_the_first_one_passes_it_on(without: Cluster) -> None:
    size = without.lab.layout.tarball_of(IMAGE).stat().st_size
    before = int(without.sh("node1", SENT))
    done = without.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    assert "from host to host: node1, node2" in done.text
    (found,) = ids(without)
    assert found.startswith("sha256:")
    assert int(without.sh("node1", SENT)) - before >= size, "node2 has it from node1"
    for host in HOSTS:
        assert without.sh(host, RELAYS) == ""
        assert without.sh(host, "find /var/lib/r1deploy -name 'incoming*'") == ""
    again = without.r1("bootstrap", "--yes")
    assert again.code == 0 and "from host to host" not in again.text, "an unchanged run sends nothing"


def test_killed_in_the_middle_it_leaves_nothing_and_goes_on_afterwards(without: Cluster) -> None:
    with Running(without, "bootstrap", "--yes") as run:
        run.until("from host to host")
        run.kill()
        run.assert_whole()
    for host in HOSTS:
        without.sh(host, f'for n in 1 2 3 4 5 6; do [ -z "$({RELAYS})" ] && exit 0; sleep 0.5; done; exit 1')
    assert without.r1("bootstrap", "--yes", "--wait").code == 0
    assert len(ids(without)) == 1


def test_a_host_whose_port_nobody_reaches_gets_it_all_the_same(without: Cluster) -> None:
    """The firewall between the hosts drops what is new, but for SSH; the controller sends it twice."""
    rule = "INPUT -p tcp --syn -s node1 ! --dport 22 -j REJECT"
    address = without.sh("node1", "hostname -i | cut -d' ' -f1").strip()
    rule = rule.replace("node1", address)
    without.sh("node2", f"iptables -I {rule}")
    back = without.sh("node2", "hostname -i | cut -d' ' -f1").strip()
    without.sh("node1", f"iptables -I {rule.replace(address, back)}")
    try:
        done = without.r1("bootstrap", "--yes")
        assert "node2 does not reach node1" in done.text
        assert len(ids(without)) == 1
    finally:
        without.sh("node2", f"iptables -D {rule}")
        without.sh("node1", f"iptables -D {rule.replace(address, back)}")
