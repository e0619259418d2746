"""Ways to the hosts: sudo, jump hosts, and the verbs that go over SSH."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1deploy.lab.places import gateway, network_prefix
from tests.lab.conftest import NAME, Cluster
from tests.lab.running import apart, refused

pytestmark = [pytest.mark.lab, pytest.mark.long]
NET = network_prefix()
HERE = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def site(ready: Cluster, tmp_path: Path) -> Cluster:
    """The same hosts with a folder of its own, its lock file included."""
    found = apart(ready, tmp_path)
    lock = (ready.folder / "r1deploy.lock").read_text()
    (found.folder / "r1deploy.lock").write_text(lock)
    return found


@pytest.fixture
def as_ops(site: Cluster) -> Cluster:
    """The same, with a login that is not root's."""
    path = site.folder / "r1deploy.yaml"
    path.write_text(path.read_text().replace("  user: root\n", "  user: ops\n"))
    return site


@contextlib.contextmanager
def closed(cluster: Cluster, host: str) -> Iterator[None]:
    """A host that drops all that comes from this machine."""
    rule = f"INPUT -s {gateway()} -j DROP"
    cluster.sh(host, f"iptables -I {rule}")
    try:
        yield
    finally:
        cluster.sh(host, f"iptables -D {rule}")


@contextlib.contextmanager
def sudoers(cluster: Cluster, text: str) -> Iterator[None]:
    """Other rules for ops on node2."""
    cluster.sh("node2", f"cp -p /etc/sudoers.d/ops /root/ops.sudoers; echo '{text}' > /etc/sudoers.d/ops")
    try:
        yield
    finally:
        cluster.sh("node2", "mv /root/ops.sudoers /etc/sudoers.d/ops")


# 6: sudo
def test_a_user_with_sudo_mends_and_serves(as_ops: Cluster) -> None:
    # The tree and the image come from host to host, for which each needs root.
    as_ops.sh("node2", "rm -rf /var/lib/r1deploy/trees/flaggems-*/*; docker ps -aq | xargs docker rm -f >/dev/null")
    as_ops.sh("node2", "docker rmi -f baai:v5 >/dev/null")
    done = as_ops.r1("bootstrap", "--yes")
    assert done.code == 0, done.text
    assert "verified" in done.out
    served = as_ops.r1("serve", "--json")
    assert served.code == 0, served.text
    assert json.loads(served.out)["answer"]
    assert "INFO" in as_ops.r1("logs").out
    assert sorted(as_ops.r1("exec", "--", "id", "-u").out.splitlines()) == ["node1 | 0", "node2 | 0"]
    assert as_ops.r1("stop").code == 0


def test_sudo_that_asks_or_refuses(as_ops: Cluster) -> None:
    as_ops.sh("node2", "echo ops:correct-horse | chpasswd")
    text = (as_ops.folder / "inventory.ini").read_text()
    given = as_ops.folder / "with-password.ini"
    given.write_text(text.replace("node2 ", "node2 ansible_become_password=correct-horse "))
    before = as_ops.fingerprint()
    with sudoers(as_ops, "ops ALL=(ALL) ALL"):
        refused(as_ops.r1("bootstrap", "--yes"), 5, "node2", "SUDO_PASSWORD", "NOPASSWD")
        refused(as_ops.r1("preflight"), 5, "node2", "SUDO_PASSWORD")
        done = as_ops.r1("exec", "-C", ".", "--host", "node2", "--", "id", "-u")
        refused(done, 5, "SUDO_PASSWORD")
        assert as_ops.r1("plan", str(given)).code == 0
        done = as_ops.r1("exec", "--host", "node2", "--", "id", "-u")
        assert (done.code, done.out) == (0, "node2 | 0\n"), done.text
        given.write_text(given.read_text().replace("correct-horse", "wrong-horse"))
        refused(as_ops.r1("plan"), 5, "node2", "SUDO_PASSWORD", "does not take the password")
    given.write_text(given.read_text().replace("wrong-horse", "correct-horse"))
    with sudoers(as_ops, ""):
        done = as_ops.r1("plan")
        refused(done, 5, "node2", "SUDO_REFUSED")
        assert "correct-horse" not in done.text
    assert as_ops.fingerprint()["node1"] == before["node1"]


def test_a_password_that_nobody_asks_for(as_ops: Cluster) -> None:
    """field.md 2.5: NOPASSWD, and a password in the inventory all the same: it is not sent, and shown nowhere."""
    text = (as_ops.folder / "inventory.ini").read_text()
    for host in ("node1", "node2"):
        text = text.replace(f"{host} ", f"{host} ansible_become_password=canary-horse ", 1)
    (as_ops.folder / "inventory.ini").write_text(text)
    as_ops.sh("node2", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
    said = ""
    for verb in (["plan"], ["bootstrap", "--yes"], ["weights", "verify"], ["exec", "--", "id"], ["history"]):
        done = as_ops.r1(*verb)
        assert done.code == 0, done.text
        said += done.out + done.err
    # What reads its standard input gets none of it.
    cat = as_ops.r1("exec", "--host", "node1", "--", "cat")
    assert (cat.code, cat.out) == (0, ""), cat.text
    runs = Path.home() / ".local" / "state" / "r1deploy" / "runs"
    said += "".join(path.read_text() for path in runs.rglob("*.jsonl") if path.stat().st_mtime > time.time() - 600)
    assert "canary-horse" not in said


# 30: jump hosts
def test_serve_and_logs_through_a_jump_host(site: Cluster) -> None:
    with closed(site, "node1"):
        refused(site.r1("plan", "--set", "ssh.connect_timeout=3"), 4, "node1", "SSH_TIMEOUT")
        jump = site.settings(ssh__jump=f"ops@{NET}.12")
        done = site.r1("serve", env=jump)
        assert done.code == 0, done.text
        assert "stand-in engine" in done.text
        assert "reached over SSH" in done.err, done.text
        assert "Serves already" in site.r1("serve", env=jump).out
        status = json.loads(site.r1("status", "--json", env=jump).out)
        assert status["serving"] is True
        assert "node1 | " in site.r1("logs", env=jump).out
        with tunnel(site, jump) as url:
            models = json.load(HERE.open(f"{url}/models", timeout=20))
            assert [row["id"] for row in models["data"]] == ["deepseek_r1"]


def test_a_jump_host_of_the_inventory(site: Cluster) -> None:
    layout = site.lab.layout
    own = f"-i {layout.ssh_key} -o UserKnownHostsFile={layout.known_hosts}"
    way = f'-o ProxyCommand="ssh -F none {own} -W %h:%p ops@{NET}.12"'
    path = site.folder / "inventory.ini"
    path.write_text(path.read_text().replace("node1 ", f"node1 ansible_ssh_common_args='{way}' "))
    with closed(site, "node1"):
        assert site.plan() == []
        done = site.r1("exec", "--host", "node1", "--", "hostname")
        assert (done.code, done.out) == (0, "node1 | node1\n"), done.text


def test_a_jump_host_is_not_trusted_on_first_use(site: Cluster) -> None:
    known = site.folder / "known_hosts"
    lines = site.lab.layout.known_hosts.read_text().splitlines()
    known.write_text("\n".join(line for line in lines if f"{NET}.12" not in line) + "\n")
    jump = site.settings(ssh__jump=f"ops@{NET}.12", ssh__known_hosts=known)
    refused(site.r1("plan", env=jump), 4, "node1", "HOSTKEY_UNKNOWN")


def test_many_logins_through_a_jump_host(site: Cluster) -> None:
    """field.md 3.6: its sshd drops logins at random once ten are under way; 48 hosts are reached all the same."""
    sshd = "/etc/ssh/sshd_config.d/few.conf"
    addresses = [f"{NET}.{number}" for number in range(101, 149)]
    known = site.folder / "known_hosts"
    text = site.lab.layout.known_hosts.read_text()
    key = next(line for line in text.splitlines() if line.startswith(f"{NET}.11,")).split(" ", 1)[1]
    known.write_text(text + "".join(f"{address} {key}\n" for address in addresses))
    rows = [f"many{number:02} ansible_host={address}" for number, address in enumerate(addresses)]
    (site.folder / "inventory.ini").write_text("\n".join(["[cluster]", *rows]) + "\n")
    device = site.sh("node1", f"ip -o -4 address | awk '/{NET}.11\\// {{print $2}}'").strip()
    reload = "kill -HUP $(cat /run/sshd.pid)"
    site.sh("node2", f"echo 'MaxStartups 10:30:100' > {sshd}; {reload}")
    try:
        site.sh("node1", "; ".join(f"ip address add {address}/24 dev {device}" for address in addresses))
        jump = site.settings(ssh__jump=f"ops@{NET}.12", ssh__known_hosts=known)
        done = site.r1("exec", "--", "hostname", env=jump)
        assert done.code == 0, done.text
        assert sorted(done.out.splitlines()) == sorted(f"many{number:02} | node1" for number in range(48))
    finally:
        site.sh("node2", f"rm {sshd}; {reload}")
        site.sh("node1", "; ".join(f"ip address del {address}/24 dev {device}" for address in addresses))


# exec and tunnel
def test_exec_has_the_output_and_the_highest_code(ready: Cluster) -> None:
    done = ready.r1("exec", "--", "sh", "-c", 'hostname; echo "a  b" >&2; [ $(hostname) = node1 ] || exit 7')
    assert done.code == 7
    assert sorted(done.out.splitlines()) == ["node1 | node1", "node2 | node2"]
    assert sorted(done.err.splitlines()) == ["node1 | a  b", "node2 | a  b"]
    refused(ready.r1("exec", "--host", "node9", "--", "true"), 2, "LIMIT_EMPTY", "node1, node2")
    refused(ready.r1("shell"), 2, "TTY_MISSING")


def test_exec_without_a_container(ready: Cluster) -> None:
    names = ready.sh("node2", f"docker ps --format '{{{{.Names}}}}' | grep ^{NAME}").split()
    ready.sh("node2", f"docker stop -t 1 {' '.join(names)}")
    try:
        refused(ready.r1("exec", "--", "true"), 5, "node2", "CONTAINER_MISSING")
    finally:
        ready.sh("node2", f"docker start {' '.join(names)}")


@contextlib.contextmanager
def tunnel(cluster: Cluster, env: dict[str, str], *argv: str) -> Iterator[str]:
    """A running ``r1deploy tunnel``; its ssh must be gone when it is, even after a kill -9."""
    argv = (sys.executable, "-m", "r1deploy", "tunnel", *argv)
    process = subprocess.Popen(
        argv, cwd=cluster.folder, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.stderr.read()
        yield url
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    port = url.split(":")[2].split("/")[0]
    rest = subprocess.run(["pgrep", "-f", f"127.0.0.1:{port}:"], capture_output=True, text=True, check=False)
    for pid in rest.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            wait_gone(int(pid))


def wait_gone(pid: int) -> None:
    """A process that is no child of ours ends within seconds."""
    descriptor = os.pidfd_open(pid)
    try:
        assert select.select([descriptor], [], [], 10)[0], f"process {pid} goes on"
    finally:
        os.close(descriptor)


def test_tunnel_to_a_port_that_is_taken(ready: Cluster) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        refused(ready.r1("tunnel", "--port", str(port)), 4, "TUNNEL_FAILED", str(port), "--port")
