"""field.md 5.16: the exported playbook in check mode, and where there is nothing to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from r1deploy.planning.steps import STEPS
from tests.lab.conftest import HOSTS, Cluster
from tests.lab.running import plain_ansible

pytestmark = pytest.mark.lab


def exported(cluster: Cluster, folder: Path) -> Path:
    assert cluster.r1("export", str(folder)).code == 0
    return folder


def run(cluster: Cluster, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    done = plain_ansible(folder, "site.yml", "-e", f"patch_key_file={cluster.lab.layout.vendor_key}", *argv)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done


def changed(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Number of changes by host, as the recap has them."""
    rows = re.findall(r"^(\S+)\s*:.*\bchanged=(\d+)", done.stdout.split("PLAY RECAP")[1], re.M)
    return {host: int(number) for host, number in rows}


def changing(done: subprocess.CompletedProcess[str]) -> set[tuple[str, str]]:
    """``(step, host)`` wherever a task says that it changes something."""
    found, step = set(), ""
    for line in done.stdout.splitlines():
        play = re.match(r"PLAY \[(\w+):", line)
        step = play[1].lower() if play else step
        row = re.match(r"changed: \[(\w+)", line)
        if row:
            found.add((step, row[1]))
    return found


def test_check_of_converged_hosts_changes_nothing(ready: Cluster, tmp_path: Path) -> None:
    before = ready.fingerprint()
    done = run(ready, exported(ready, tmp_path / "export"), "--check")
    assert changed(done) == dict.fromkeys(HOSTS, 0), changing(done)
    assert ready.fingerprint() == before


@pytest.mark.long
def test_a_first_run_on_converged_hosts_changes_nothing(ready: Cluster, tmp_path: Path) -> None:
    """It was four: both trees came from the builder to this machine, for nobody."""
    done = run(ready, exported(ready, tmp_path / "export"))
    assert changed(done) == dict.fromkeys(HOSTS, 0), changing(done)
    assert not list((tmp_path / "export").rglob(".staging")), "no tree has come here"
    assert ready.plan() == []


@pytest.mark.long
def test_check_of_empty_hosts_lists_what_a_run_does(cluster: Cluster, tmp_path: Path) -> None:
    """Exit code 0, no trace on a host, and the very steps and hosts that the run itself changes then."""
    if cluster.plan():
        assert cluster.r1("bootstrap", "--yes").code == 0
    folder = exported(cluster, tmp_path / "export")
    cluster.wipe()
    for host in HOSTS:
        cluster.sh(host, "docker rmi -f baai:v5 >/dev/null")
    before = cluster.fingerprint()
    said = run(cluster, folder, "--check")
    assert cluster.fingerprint() == before
    done = run(cluster, folder)
    assert changing(said) == changing(done)
    assert {step for step, _ in changing(said)} == set(STEPS)
    assert cluster.plan() == []
    again = run(cluster, folder)
    assert changed(again) == dict.fromkeys(HOSTS, 0), changing(again)


@pytest.mark.long
def test_one_host_that_lacks_a_tree_gets_it(ready: Cluster, tmp_path: Path) -> None:
    folder = exported(ready, tmp_path / "export")
    ready.sh("node2", "rm -rf /var/lib/r1deploy/trees/flagscale-*/FlagScale")
    wanted = {("vllm", "node1"), ("vllm", "node2")}
    assert changing(run(ready, folder, "--check")) == wanted
    assert changing(run(ready, folder)) == wanted
    assert ready.plan() == []
