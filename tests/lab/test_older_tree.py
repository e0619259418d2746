"""A cluster that the tree before the house deployed: this tree plans nothing there but its own scripts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.lab.conftest import Cluster, Ran
from tests.lab.test_flow import started

pytestmark = [pytest.mark.lab, pytest.mark.long]
# The last commit before the code moved into the house of docs/architecture.md.
OLDER = "d563498af5bee7b5e53c905699e107195df6536e"
TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """That tree, out of git."""
    data = subprocess.run(["git", "-C", str(TOP), "archive", OLDER], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(tmp_path / "older", filter="data")
    return tmp_path / "older"


def by_older(cluster: Cluster, tree: Path, *argv: str) -> Ran:
    """Run the older tree in the user's folder."""
    done = subprocess.run(
        [sys.executable, "-m", "r1deploy", *argv],
        cwd=cluster.folder,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_what_the_older_tree_deployed_is_taken_over(cluster: Cluster, older: Path) -> None:
    cluster.wipe()
    done = by_older(cluster, older, "bootstrap", "--yes")
    assert done.code == 0, done.err
    done = by_older(cluster, older, "serve")
    assert done.code == 0, done.err
    try:
        before = started(cluster)
        changes = cluster.plan()
        assert {row["step"] for row in changes} <= {"host"}, changes
        assert all(row["field"].startswith("bin/") for row in changes), changes
        done = cluster.r1("bootstrap", "--yes")
        assert done.code == 0, done.err
        assert cluster.plan() == []
        assert started(cluster) == before, "the service was touched"
        done = cluster.r1("serve", "--json")
        assert done.code == 0 and '"already": true' in done.out, done.text
        # And back: the older tree finds nothing to do but its own scripts again.
        done = by_older(cluster, older, "status", "--probe")
        assert done.code == 0 and "serves deepseek_r1" in done.out, done.text
    finally:
        cluster.r1("stop")
