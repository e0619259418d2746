"""The cluster that the tests of the flow share: real hosts, and the command line as a user runs it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from r1deploy.cluster import hostfile, inventories
from r1deploy.lab import Lab, LabError

NAME = "flagrelease_bi"
HOSTS = ("node1", "node2")
# Everything of a host but what lives on its own: kernel, engine's store, logs, memory; and the line of each run.
FINGERPRINT = """
find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/lib/docker \
  -o -path /var/log -o -path /var/lib/containerd -o -path /var/cache \
  -o -name history.jsonl \\) -prune -o \\( -type f -o -type l \\) -print0 \
  | sort -z | xargs -0 stat -c '%n %s %Y %a %i'
docker ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.State}}'
docker inspect -f '{{.State.StartedAt}}' $(docker ps -aq) 2>/dev/null
docker images --no-trunc --format '{{.ID}} {{.Repository}}'
"""


@dataclass(frozen=True)
class Ran:
    """One run of the command line."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that was printed, with the wrapping taken out."""
        return " ".join((self.out + self.err).split())


class Cluster:
    """Two lab hosts and a folder of the user's."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder

    def r1(self, *argv: str, env: dict[str, str] | None = None, timeout: int = 600) -> Ran:
        """Run r1deploy in the folder, without a tty, 80 columns wide."""
        done = subprocess.run(
            [sys.executable, "-m", "r1deploy", *argv],
            cwd=self.folder,
            env={**os.environ, "COLUMNS": "80", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def plan(self) -> list[dict[str, str]]:
        """Changes that the plan names."""
        done = self.r1("plan", "--json")
        assert done.code == 0, done.err
        return list(json.loads(done.out)["changes"])

    def sh(self, host: str, script: str) -> str:
        """Run a script as root on a host."""
        code, out = self.lab.exec(host, "sh", "-c", script)
        assert code == 0, out
        return out

    def fingerprint(self) -> dict[str, str]:
        """A hash of each host's files and containers."""
        return {
            host: hashlib.sha256(self.lab.exec(host, "sh", "-c", FINGERPRINT)[1].encode()).hexdigest() for host in HOSTS
        }

    def settings(self, **values: Any) -> dict[str, str]:
        """Settings as environment variables: engine__port=1 → R1DEPLOY_ENGINE__PORT."""
        return {f"R1DEPLOY_{key.upper()}": str(value) for key, value in values.items()}

    def wipe(self) -> None:
        """Hosts as they were before any bootstrap; the image stays loaded."""
        for host in HOSTS:
            self.lab.set_engine_fault(host, None)
            self.lab.set_chips(host)
            self.sh(
                host,
                "docker ps -aq | xargs -r docker rm -f >/dev/null; rm -rf /var/lib/r1deploy; "
                "sed -i '/ r1deploy:/d' /root/.ssh/authorized_keys",
            )


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The lab, up, with clean hosts."""
    lab = Lab()
    required = os.environ.get("R1DEPLOY_LAB_REQUIRED") == "1"
    try:
        lab.up(2, install=required)
    except LabError as error:
        if required:
            raise
        pytest.skip(f"the lab cannot start here: {error}")
    folder = tmp_path_factory.mktemp("site")
    (folder / "r1deploy.yaml").write_text(lab.layout.settings.read_text())
    (folder / "inventory.ini").write_text(inventories.render(hostfile.read(lab.layout.hostfile)))
    found = Cluster(lab, folder)
    found.wipe()
    for host in HOSTS:
        found.sh(host, "docker images -q | sort -u | xargs -r docker rmi -f >/dev/null 2>&1; true")
    yield found
    found.wipe()


@pytest.fixture(scope="module")
def ready(cluster: Cluster) -> Cluster:
    """The cluster after a bootstrap, whatever the file before left."""
    if cluster.plan():
        done = cluster.r1("bootstrap", "--yes")
        assert done.code == 0, done.err
    return cluster
