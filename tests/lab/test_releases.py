"""Upgrades beside the running service, releases that fail, and the way back."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.lab.clients import Client
from tests.lab.conftest import HOSTS, Cluster
from tests.lab.running import apart, refused
from tests.lab.test_flow import started

pytestmark = pytest.mark.lab


class Counting(Client):
    """Asks five times a second, and counts what failed."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, every=0.2, timeout=10)
        self.asked, self.failed = 0, []  # type: tuple[int, list[str]]

    def begins(self) -> None:
        self.asked += 1

    def heard(self, status: int, token: bool) -> None:
        if not token:
            self.failed.append(f"{status}")

    def lost(self, error: httpx.HTTPError) -> None:
        self.failed.append(repr(error))


@pytest.fixture(scope="module")
def serving(ready: Cluster) -> Iterator[Cluster]:
    """The cluster with the service of the settings as they are."""
    done = ready.r1("serve")
    assert done.code == 0, done.err
    yield ready
    ready.r1("stop")


def active(cluster: Cluster) -> dict[str, object]:
    return dict(json.loads(cluster.sh("node1", "cat /var/lib/r1deploy/active.json")))


def move_flaggems(cluster: Cluster, tmp_path: Path) -> str:
    """A new commit on FlagGems' branch ``main``; returns it."""
    bare = cluster.lab.layout.upstreams / "FlagGems.git"
    clone = tmp_path / "gems"
    subprocess.run(["git", "clone", "-q", str(bare), str(clone)], check=True)
    (clone / "NEWS").write_text(f"{time.time()}\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@invalid"]
    subprocess.run(["git", "-C", str(clone), "add", "NEWS"], check=True)
    subprocess.run(["git", "-C", str(clone), *identity, "commit", "-qm", "news"], check=True)
    subprocess.run(["git", "-C", str(clone), "push", "-q", "origin", "HEAD:main"], check=True)
    return subprocess.run(
        ["git", "-C", str(clone), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_upgrade_beside_the_running_service_and_back(serving: Cluster, tmp_path: Path) -> None:
    site = apart(serving, tmp_path)
    (site.folder / "r1deploy.lock").write_text((serving.folder / "r1deploy.lock").read_text())
    before = active(site)
    text = (site.folder / "r1deploy.yaml").read_text()
    (site.folder / "r1deploy.yaml").write_text(text.replace("flaggems:\n", "flaggems:\n  ref: main\n"))
    commit = move_flaggems(site, tmp_path)
    with Counting(site) as client:
        done = site.r1("bootstrap", "--yes")
        assert done.code == 0, done.err
        # What was bootstrapped again: FlagGems and its container; vLLM was not built.
        assert not re.search(r"^ +\d+s  (vllm|patch) ", done.err, re.M), done.err
        assert commit[:12] in done.err
        # A branch that moves afterwards changes nothing until it is asked for.
        moved = move_flaggems(site, tmp_path / "again")
        assert site.plan() == []
        shown = site.r1("plan", "--upgrade", "flaggems")
        assert f"{commit[:12]} → {moved[:12]} (main)" in shown.text
        assert site.plan() == []
    assert client.asked > 20 and client.failed == [], client.failed[:5]
    assert active(site) == before
    # Item 11 of issue 9: what serves is not stopped unasked.
    refused(site.r1("serve"), 2, "YES_MISSING", f"Release {before['release']}/{before['config']} serves", "flaggems:")
    done = site.r1("serve", "--yes")
    assert done.code == 0, done.err
    now = active(site)
    assert now["release"] != before["release"] and now["proven"]
    assert now["previous"] == {"release": before["release"], "config": before["config"]}
    listed = json.loads(site.r1("releases", "--json").out)
    assert [(row["state"], row["problems"]) for row in listed][:2] == [("active", []), ("previous", [])]

    # Back: first a release that is not whole on one host, then the whole one.
    tree = f"/var/lib/r1deploy/releases/{before['release']}/config/{before['config']}"
    site.sh("node2", f"mv {tree}/env.sh {tree}/env.away")
    stood = started(site)
    refused(site.r1("rollback"), 5, "ROLLBACK_INCOMPLETE", "node2", "env.sh", "nothing was touched")
    # The engine's log grows while it serves: what must stand still are the containers and what is active.
    assert started(site) == stood
    assert active(site) == now
    site.sh("node2", f"mv {tree}/env.away {tree}/env.sh")
    refused(site.r1("rollback"), 2, "YES_MISSING", "as the last start took")
    done = site.r1("rollback", "--yes")
    assert done.code == 0, done.err
    assert (active(site)["release"], active(site)["config"]) == (before["release"], before["config"])
    assert serving.r1("serve").out.startswith("Serves already.")
    # field.md 5.14: r1deploy.yaml still describes the release that was left.
    wanted = f"r1deploy.yaml describes release {now['release']}/{now['config']}"
    refused(site.r1("serve"), 5, "NOT_BOOTSTRAPPED", wanted, "is active", "flaggems:")
    refused(site.r1("rollback", "ffff"), 5, "ROLLBACK_NOTHING")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param("crash-at-start", "ENGINE_DIED", marks=pytest.mark.faults),
        ("crash-while-loading", "ENGINE_DIED"),
        pytest.param("hang", "ENGINE_SILENT", marks=pytest.mark.faults),
        pytest.param("no-tokens", "NO_TOKENS", marks=pytest.mark.faults),
    ],
)
def test_a_bad_release_never_wins(serving: Cluster, fault: str, code: str) -> None:
    """The fault is in the new configuration alone: an environment that makes the light engine fail."""
    assert serving.r1("bootstrap", "--yes").code == 0
    assert serving.r1("serve", "--yes").code == 0
    before = active(serving)
    env = serving.settings(env__R1LAB_ENGINE_FAULT=fault, service__ready_timeout=12)
    done = serving.r1("bootstrap", "--yes", env=env)
    assert done.code == 0, done.err
    assert set(re.findall(r"^ +\d+s  (\w+)", done.err, re.M)) == {"config"}
    done = serving.r1("serve", "--yes", env=env)
    refused(done, 7, code, f"release {before['release']}/{before['config']} serves again")
    assert "  | " in done.err
    now = active(serving)
    assert (now["release"], now["config"], now["proven"]) == (before["release"], before["config"], True)
    assert serving.r1("serve").out.startswith("Serves already.")


@pytest.mark.faults
def test_older_releases_go_and_the_previous_stays(serving: Cluster) -> None:
    for number in (101, 102, 103):
        new = ["--set", f"engine.max_num_seqs={number}"]
        assert serving.r1("bootstrap", "--yes", *new).code == 0
        assert serving.r1("serve", "--yes", *new).code == 0
    listed = json.loads(serving.r1("releases", "--json", "--set", "engine.max_num_seqs=103").out)
    assert [row["state"] for row in listed] == ["active", "previous"]
    for host in HOSTS:
        assert len(serving.sh(host, "ls -d /var/lib/r1deploy/releases/*/config/*").split()) == 2
        assert len(serving.sh(host, "docker ps -aq").split()) == 1
    assert serving.r1("bootstrap", "--yes").code == 0
    assert serving.r1("serve", "--yes").code == 0


def test_rollback_with_nothing_to_go_back_to(ready: Cluster) -> None:
    for host in HOSTS:
        ready.sh(host, "cd /var/lib/r1deploy; [ ! -e active.json ] || mv active.json /tmp/active.json")
    before = started(ready)
    try:
        refused(ready.r1("rollback"), 5, "ROLLBACK_NOTHING")
        assert started(ready) == before
    finally:
        for host in HOSTS:
            ready.sh(host, "[ ! -e /tmp/active.json ] || mv /tmp/active.json /var/lib/r1deploy/active.json")


def test_api_key_is_asked_for_and_used(ready: Cluster, tmp_path: Path) -> None:
    key = "canary-api-key-7f3a9c"
    path = tmp_path / "api-key"
    path.write_text(key + "\n")
    path.chmod(0o644)
    env = ready.settings(service__api_key_file=path)
    refused(ready.r1("plan", env=env), 3, "API_KEY_MISSING", "chmod 0600")
    path.chmod(0o600)
    done = ready.r1("bootstrap", "--yes", env=env)
    assert done.code == 0, done.err
    done = ready.r1("serve", "--yes", env=env)
    assert done.code == 0, done.err
    url = f"http://{ready.lab.hosts()[0].address}:9010/v1/models"
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(url, trust_env=False, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert json.loads(ready.r1("status", "--json", env=env).out)["models"] == ["deepseek_r1"]
    assert "Serves already." in ready.r1("serve", env=env).out
    # In one 0600 file on the head, in the environment of the service, and nowhere else.
    for host in HOSTS:
        found = ready.sh(
            host, f"grep -rlsF -- {key} /var/lib/r1deploy /root /tmp /run /var/log /etc 2>/dev/null || true"
        ).split()
        assert [Path(name).name for name in found] == (["api_key.sh"] if host == "node1" else [])
        assert all(ready.sh(host, f"stat -c %a {name}").strip() == "600" for name in found)
        seen = ready.sh(host, f"ps -eo args | grep -F -- {key} | grep -v grep || true")
        assert seen.strip() == ""
    target = tmp_path / "export"
    assert ready.r1("export", str(target), env=env).code == 0
    assert not any(key in file.read_text(errors="replace") for file in target.rglob("*") if file.is_file())
    assert ready.r1("stop", env=env).code == 0
