"""docs/security.md on real hosts: its firewall lines close what they say, and open what they say."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1deploy.lab import places
from tests.lab.conftest import HOSTS, Cluster

pytestmark = pytest.mark.lab
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
LISTEN = "import socket,sys,time; s=socket.create_server(('0.0.0.0', int(sys.argv[1])), backlog=50); time.sleep(60)"
API, RAY = 9010, 6379


def lines(cluster: str, clients: str) -> str:
    """The page's lines with other addresses."""
    (block,) = re.findall(r"^```\n(CLUSTER=.*?)^```", PAGE, re.M | re.S)
    block = re.sub(r'^CLUSTER=".*?"', f'CLUSTER="{cluster}"', block, count=1, flags=re.M)
    return re.sub(r'^CLIENTS=".*?"', f'CLIENTS="{clients}"', block, count=1, flags=re.M)


def undo() -> str:
    (found,) = re.findall(r"To take it back: `(.*?)`", PAGE)
    return str(found)


def reached(address: str, port: int) -> bool:
    """Whether this machine reaches a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


@pytest.fixture
def listening(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Something listens on the API's and on Ray's port of each host."""
    addresses = {name: places.node_address(number) for number, name in enumerate(HOSTS, 1)}
    for name in HOSTS:
        for port in (API, RAY):
            cluster.sh(name, f'nohup python3 -c "{LISTEN}" {port} >/dev/null 2>&1 & echo $! >> /root/listen.pids')
    yield addresses
    for name in HOSTS:
        cluster.sh(name, f"kill $(cat /root/listen.pids); rm /root/listen.pids; {undo()} 2>/dev/null; true")


def test_the_firewall_lines(cluster: Cluster, listening: dict[str, str]) -> None:
    """field.md 2.10: from here, who is no host of the cluster, only the API is reached; hosts reach each other."""
    for address in listening.values():
        for port in (API, RAY):
            until = time.monotonic() + 30
            while not reached(address, port) and time.monotonic() < until:
                time.sleep(0.2)
            assert reached(address, port), "the test would see nothing: nobody listens"
    for name in HOSTS:
        cluster.sh(name, lines(" ".join(listening.values()), places.gateway()))
    assert {port: reached(address, port) for address in listening.values() for port in (API, RAY, 22)} == {
        API: True,
        RAY: False,
        22: True,
    }
    peer = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    for port in (API, RAY):
        cluster.sh("node1", f'python3 -c "{peer}" {listening["node2"]} {port}')
    for name in HOSTS:
        cluster.sh(name, undo())
    assert reached(listening["node2"], RAY)
