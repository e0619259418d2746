"""Limited links of the lab: what is sent takes its time both ways, after a restart of the host too, until `lab up`."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from r1deploy.lab import Lab, links
from tests.lab.conftest import HOSTS, Cluster

pytestmark = pytest.mark.lab
SENT = 4 * 2**20


def seconds(lab: Lab, script: str, data: bytes) -> float:
    begun = time.monotonic()
    subprocess.run(lab.ssh(HOSTS[-1], "sh", "-c", script), input=data, capture_output=True, check=True, timeout=120)
    return time.monotonic() - begun


def shown(lab: Lab) -> list[str | None]:
    return [row["link"] for row in lab.status()["hosts"]]


def test_links_are_limited_each_way(cluster: Cluster) -> None:
    lab, limits = cluster.lab, links.parse(["20mbit"])
    try:
        lab.limit(limits)
        assert shown(lab) == ["20mbit"] * len(HOSTS)
        # No less than the link allows, however busy this machine is; the bucket goes through at once.
        least = (SENT - 2**17) * 8 / 20_000_000
        assert seconds(lab, "cat > /dev/null", os.urandom(SENT)) > least
        assert seconds(lab, f"head -c {SENT} /dev/urandom", b"") > least
        lab.reboot(HOSTS[-1])
        assert shown(lab) == ["20mbit"] * len(HOSTS)
        lab.limit(links.parse(["node2=30mbit"]))
        assert shown(lab) == [None, "30mbit"]
    finally:
        lab.up(len(HOSTS))
    assert shown(lab) == [None] * len(HOSTS)
