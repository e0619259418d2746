"""``diag`` on the lab's hosts, where PyTorch's CPU build plays the chips; and what must not be left of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1deploy.lab import WheelsMissing
from r1deploy.planning.diagrecord import PARTS
from tests.lab.conftest import HOSTS, Cluster

CHIPS = 2
# What diag starts on a host carries a mark, or has the loader in its arguments; a compiler that hangs is a `sleep`.
AT_WORK = """
grep -lsza '^R1DEPLOY_EXEC=' /proc/[0-9]*/environ || true
ps -eo args | grep -E '[t]he order was interrupted|[s]leep 3600' || true
"""
GRACE = 15


def with_torch(cluster: Cluster, folder: Path) -> Cluster:
    """The same hosts, set up so that the containers see PyTorch; skipped where its wheels cannot be had."""
    try:
        path = cluster.lab.bring_torch()
    except WheelsMissing as error:
        if os.environ.get("R1DEPLOY_LAB_ENGINE_REQUIRED") == "1":
            raise
        pytest.skip(f"DIAG WITH PYTORCH WAS NOT TESTED: {error}")
    settings = yaml.safe_load((cluster.folder / "r1deploy.yaml").read_text())
    settings.setdefault("env", {})["PYTHONPATH"] = path
    settings["chip"] = {"torch_device": "cpu"}
    settings["diag"] = {"tokens": [1, 33, 200]}  # of the deadlines the product's own: two cores may be busy
    (folder / "r1deploy.yaml").write_text(yaml.safe_dump(settings))
    (folder / "inventory.ini").write_text((cluster.folder / "inventory.ini").read_text())
    found = Cluster(cluster.lab, folder)
    well(found)
    done = found.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    return found


def well(cluster: Cluster) -> None:
    """Chips and FlagGems of all hosts are right."""
    for host in HOSTS:
        cluster.lab.set_torch(host, CHIPS)
        cluster.lab.set_flaggems(host, None)


def diag(cluster: Cluster, *argv: str, code: int = 0, timeout: int = 600) -> dict[str, Any]:
    """Run ``diag`` to this exit code; its document. Nothing of it is left on the hosts when it ends."""
    done = cluster.r1("diag", *argv, "--json", timeout=timeout)
    assert done.code == code, done.text[-3000:]
    assert_let_go(cluster)
    return dict(json.loads(done.out))


def at_work(cluster: Cluster, pattern: str = "") -> dict[str, str]:
    """What of diag still runs, by host. In: a further word that it has to have."""
    found = {host: cluster.sh(host, AT_WORK).strip() for host in HOSTS}
    return {host: said for host, said in found.items() if said and pattern in said}


def assert_let_go(cluster: Cluster) -> None:
    """Some seconds after the end of a diag nothing of it is at work, whatever ended it."""
    end = time.monotonic() + GRACE
    while (left := at_work(cluster)) and time.monotonic() < end:
        time.sleep(0.5)
    assert left == {}


@contextmanager
def on_host(cluster: Cluster, host: str, cause: str, undo: str) -> Iterator[None]:
    """Something is wrong on a host for a while."""
    try:
        cluster.sh(host, cause)
        yield
    finally:
        cluster.sh(host, undo)


def said_by_status(cluster: Cluster) -> dict[str, str]:
    """What ``status`` says of each part of diag."""
    rows = [row.removeprefix("diag ").strip().partition(": ") for row in cluster.r1("status").out.splitlines()]
    return {name: said for name, _, said in rows if name in PARTS}
