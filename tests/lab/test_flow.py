"""The main job on real hosts: plan, bootstrap, again, drift, serve, stop, export."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.lab.conftest import HOSTS, NAME, Cluster
from tests.lab.running import plain_ansible

pytestmark = pytest.mark.lab
TREE = "/var/lib/r1deploy/trees/flagscale-*/FlagScale/build/BI_V150/FlagScale"


def started(cluster: Cluster) -> dict[str, str]:
    """StartedAt of every container, by host."""
    return {
        host: cluster.sh(host, "docker inspect -f '{{.Name}} {{.State.StartedAt}}' $(docker ps -aq)") for host in HOSTS
    }


def test_plan_changes_nothing(cluster: Cluster) -> None:
    cluster.wipe()
    (cluster.folder / "r1deploy.lock").unlink(missing_ok=True)
    cluster.sh("node1", "docker rmi -f baai:v5 >/dev/null 2>&1 || true")
    before = cluster.fingerprint()
    changes = cluster.plan()
    assert {row["step"] for row in changes} == {
        "host", "image", "container", "sources", "patch", "vllm", "install", "trust", "config",
    }  # fmt: skip
    assert cluster.r1("plan", "--exit-code").code == 10
    assert cluster.r1("preflight").code == 0
    assert cluster.r1("status").code == 0
    assert cluster.fingerprint() == before
    assert not (cluster.folder / "r1deploy.lock").exists()


def test_bootstrap_from_nothing(cluster: Cluster) -> None:
    cluster.wipe()
    done = cluster.r1("bootstrap", "inventory.ini", "--yes")
    assert done.code == 0, done.err
    assert "verified. Ready to serve." in done.out
    assert max(map(len, (done.out + done.err).splitlines())) <= 80
    assert cluster.plan() == []
    assert "ciphertexts" in (cluster.folder / "r1deploy.lock").read_text()
    for host in HOSTS:
        assert cluster.sh(host, "stat -c %a /var/lib/r1deploy/trust").strip() == "700"
        assert cluster.sh(host, "cat /var/lib/r1deploy/releases/*/config/*/env.sh").count("VLLM_HOST_IP=1") == 1


def test_key_is_on_no_host(ready: Cluster) -> None:
    secret = ready.lab.layout.vendor_key.read_text().splitlines()[3]
    for host in HOSTS:
        places = "/var/lib/r1deploy /root /tmp /run /dev/shm /var/log /var/lib/docker/overlay2"
        code, out = ready.lab.exec(
            host, "sh", "-c", f"grep -rlsF -- '{secret}' {places}; grep -lsF '{secret}' /proc/[0-9]*/environ"
        )
        assert out.strip() == "", (code, out)


def test_vendor_patch_is_not_left_behind(ready: Cluster) -> None:
    found = ready.sh(
        "node1",
        "find / -xdev -name 'diff.patch' -not -path '/proc/*' 2>/dev/null; docker exec $(docker ps -q) find /tmp /root -name 'diff.patch'",  # noqa: E501 - one shell line
    )
    assert found.strip() == ""


def test_again_starts_no_playbook(ready: Cluster, tmp_path: Path) -> None:
    before, files = started(ready), ready.fingerprint()
    done = ready.r1("bootstrap", env={"XDG_STATE_HOME": str(tmp_path)})
    assert done.code == 0
    assert "Nothing to do" in done.out
    assert started(ready) == before
    assert ready.fingerprint() == files
    assert list(tmp_path.glob("r1deploy/runs/lab/*-bootstrap.jsonl")) == [], "a log of nothing"


# Drifts that one look finds together: what is done to which host, and the changes that the plan names, step by step.
DRIFTS: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "files": (
        [
            ("node1", "echo '#' >> /var/lib/r1deploy/bin/r1trust.py"),
            ("node2", f"echo x >> $(echo {TREE}/setup.py)"),
            ("node2", "sed -i 's/restrict,//' /root/.ssh/authorized_keys"),
            ("node1", "echo '# x' >> $(ls /var/lib/r1deploy/releases/*/config/*/hostfile.txt)"),
            ("node2", "chmod 644 /var/lib/r1deploy/releases/*/config/*/env.sh"),
        ],
        [("host", "node1"), ("vllm", "node2"), ("trust", "node2"), ("config", "node1"), ("config", "node2")],
    ),
    "containers": (
        [
            ("node1", "docker exec $(docker ps -q) pip uninstall -qy vllm"),
            ("node2", "docker rm -f $(docker ps -q) >/dev/null"),
        ],
        [("container", "node2"), ("install", "node1"), *[("install", "node2")] * 3],
    ),
    "a stopped container": (
        [("node1", "docker stop -t 1 $(docker ps -q) >/dev/null")],
        [("container", "node1")],
    ),
}


@pytest.mark.parametrize(("scripts", "wanted"), DRIFTS.values(), ids=DRIFTS.keys())
def test_plan_names_exactly_the_drift_and_bootstrap_mends_it(
    ready: Cluster, scripts: list[tuple[str, str]], wanted: list[tuple[str, str]]
) -> None:
    for host, script in scripts:
        ready.sh(host, script)
    assert [(row["step"], row["host"]) for row in ready.plan()] == wanted
    done = ready.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    assert ready.plan() == []


@pytest.mark.faults
def test_a_moved_checkout_is_checked_out_and_built_again(ready: Cluster) -> None:
    clone = "$(echo /var/lib/r1deploy/trees/flaggems-*/FlagGems)"
    ready.sh("node1", f"git -c safe.directory='*' -C {clone} checkout -q HEAD~1")
    found = [(row["step"], row["host"]) for row in ready.plan()]
    # The wheel is built again, so what comes from it follows.
    assert found[0] == ("sources", "node1")
    assert {step for step, _ in found} == {"sources", "install"}
    done = ready.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    assert ready.plan() == []


def test_only_drifted_host_is_touched(ready: Cluster) -> None:
    before = ready.fingerprint()["node1"]
    ready.sh("node2", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
    assert ready.r1("bootstrap", "--yes").code == 0
    assert ready.fingerprint()["node1"] == before


def test_a_run_with_work_logs_in_twice(ready: Cluster) -> None:
    """To look whether there is work; and for all that follows: a second look, Ansible, a third look, the history."""
    ready.sh("node2", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
    before = connections(ready, "node2")
    assert ready.r1("bootstrap", "--yes").code == 0
    assert connections(ready, "node2") - before == 2
    assert ready.plan() == []


def connections(cluster: Cluster, host: str) -> int:
    """TCP connections that a host has taken since it is up (the kernel's PassiveOpens)."""
    names, values = (line.split() for line in cluster.sh(host, "grep ^Tcp: /proc/net/snmp").splitlines())
    return int(dict(zip(names, values, strict=True))["PassiveOpens"])


def test_serve_stop_and_strangers(ready: Cluster) -> None:
    image = ready.sh("node1", "docker images -q baai:v5").split()[0]
    for host in HOSTS:
        ready.sh(host, "nohup python3 -c 'import time; time.sleep(900)' >/dev/null 2>&1 & echo $! > /tmp/stranger")
        ready.sh(host, f"docker run -d --name stranger {image} python3 -c 'import time; time.sleep(900)' >/dev/null")
    try:
        done = ready.r1("serve")
        assert done.code == 0, done.err
        assert "Ray: 2/2 nodes, 32 chips" in done.err
        assert "loading weights [" in done.err
        assert "stand-in engine" in done.text
        codes = ("API_OPEN", "RAY_OPEN", "TRUST_ROOT")
        assert [code for code in codes if code in done.err] == list(codes), "field.md 2.10: said once a start"
        address = ready.lab.hosts()[0].address
        models = httpx.get(f"http://{address}:9010/v1/models", trust_env=False).json()
        assert [row["id"] for row in models["data"]] == ["deepseek_r1"]
        again = ready.r1("serve")
        assert again.code == 0
        assert "Serves already." in again.out and "API_OPEN" not in again.text
        status = json.loads(ready.r1("status", "--json").out)
        assert (status["serving"], status["ray_nodes"], status["models"]) == (True, 2, ["deepseek_r1"])
        before = started(ready)
        assert "Nothing to do" in ready.r1("bootstrap").out
        assert started(ready) == before
        log = ready.r1("logs", "-n", "200")
        assert "node1 | " in log.out
        assert ready.r1("stop").out.strip().endswith("Stopped.")
        assert ready.r1("stop").out.strip() == "Nothing runs."
        for host in HOSTS:
            ready.sh(host, "kill -0 $(cat /tmp/stranger)")
            assert ready.sh(host, "docker inspect -f '{{.State.Running}}' stranger").strip() == "true"
            assert ready.sh(host, "ps -eo args | grep -cE '[r]aylet|[v]llm serve' || true").strip() == "0"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://{address}:9010/health", trust_env=False)
    finally:
        for host in HOSTS:
            ready.lab.exec(host, "sh", "-c", "kill $(cat /tmp/stranger); docker rm -f stranger; rm -f /tmp/stranger")


def test_trust_runs_docker_exec_into_our_container_only(ready: Cluster) -> None:
    address = ready.lab.hosts()[1].address
    if NAME not in ready.sh("node2", "docker ps --format '{{.Names}}'").split():
        assert ready.r1("serve").code == 0  # it gives the container its name
        assert ready.r1("stop").code == 0

    def ask(command: str) -> tuple[int, str]:
        return ready.lab.exec("node1", "docker", "exec", NAME, "ssh", "-n", address, command)

    assert ask(f"docker exec {NAME} /bin/bash -c 'echo inside'")[0] == 0
    for command in ("id", "docker ps", f"docker exec {NAME} id", f"docker exec {NAME} /bin/bash -c 'id'; id", ""):
        code, out = ask(command)
        assert code != 0, (command, out)
        assert "uid=" not in out


def test_export_runs_with_plain_ansible(ready: Cluster, tmp_path: Path) -> None:
    target = tmp_path / "export"
    assert ready.r1("export", str(target)).code == 0
    secret = ready.lab.layout.vendor_key.read_text().splitlines()[3]
    text = "".join(path.read_text(errors="replace") for path in target.rglob("*") if path.is_file())
    assert secret not in text
    ready.sh("node2", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
    assert str(ready.folder) not in text, "no path of the machine that wrote it"
    argv = ["site.yml", "-e", f"patch_key_file={ready.lab.layout.vendor_key}"]
    first = plain_ansible(target, *argv)
    assert first.returncode == 0, first.stdout[-3000:]
    assert ready.plan() == []
    for more in ([], ["--check"]):
        again = plain_ansible(target, *argv, *more)
        assert again.returncode == 0, again.stdout[-3000:]
        recap = again.stdout.split("PLAY RECAP")[1]
        assert {host: f"{host} " in recap for host in HOSTS} == dict.fromkeys(HOSTS, True), recap
        assert recap.count("changed=0") == len(HOSTS), (more, recap)
