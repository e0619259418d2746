"""SSH and Python as sites have them (field.md, section 3): each quirk × each verb that talks to hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from r1deploy.lab.places import gateway, network_prefix
from tests.lab.conftest import HOSTS, Cluster
from tests.lab.running import apart, refused
from tests.lab.test_site_access import HERE, tunnel

pytestmark = pytest.mark.lab
NET = network_prefix()
SSHD = "/etc/ssh/sshd_config.d/quirk.conf"
RELOAD = "kill -HUP $(cat /run/sshd.pid 2>/dev/null || pgrep -o -x sshd)"
BASHRC_BACK = "sed -i '/# a quirk$/d' /root/.bashrc"
SMI = "/usr/local/corex/bin/ixsmi"
# What people at a terminal like, and programs do not.
SSH_CONFIG = """
Host *
    RequestTTY force
    RemoteCommand top
    StdinNull yes
    ForkAfterAuthentication yes
    PermitLocalCommand yes
    LocalCommand echo Welcome to %h
    SendEnv LANG LC_*
"""


@dataclass(frozen=True)
class Quirk:
    """What a site has: scripts on each host and back, words of the inventory for each host, an environment here.

    ``forwards``: whether a tunnel can work there.
    """

    on: str = "true"
    off: str = "true"
    inventory: str = ""
    here: dict[str, str] = field(default_factory=dict)
    forwards: bool = True


def bashrc(line: str) -> str:
    """A line for root's shell, before all others."""
    return f"sed -i '1i {line} # a quirk' /root/.bashrc"


QUIRKS = {
    "noisy shell files": Quirk(
        bashrc("echo Welcome; echo careful >&2"),
        BASHRC_BACK,
    ),
    "a shell that shows its commands": Quirk(bashrc("set -x"), BASHRC_BACK),
    "ssh_config for people": Quirk(inventory="ansible_ssh_common_args='-F {config}'"),
    "Python elsewhere": Quirk(
        # The stand-in of the vendor's tool is a Python script; the vendor's own is none.
        "mkdir -p /opt/site && ln -sf $(readlink -f /usr/bin/python3) /opt/site/python && rm /usr/bin/python3 "
        f"&& sed -i '1s|/usr/bin/python3|/opt/site/python|' {SMI}",
        "ln -sf $(basename $(readlink -f /opt/site/python)) /usr/bin/python3; rm -r /opt/site; "
        f"sed -i '1s|/opt/site/python|/usr/bin/python3|' {SMI}",
        "ansible_python_interpreter=/opt/site/python",
    ),
    "MaxSessions 1": Quirk(f"echo MaxSessions 1 > {SSHD}; {RELOAD}", f"rm -f {SSHD}; {RELOAD}"),
    "umask 077": Quirk(bashrc("umask 077"), BASHRC_BACK),
    "/tmp noexec": Quirk("mount -t tmpfs -o noexec,nosuid,nodev tmpfs /tmp", "umount /tmp"),
    "another language": Quirk(
        f"echo 'SetEnv LANG=zh_CN.UTF-8 LC_ALL=zh_CN.UTF-8 LANGUAGE=zh_CN' > {SSHD}; {RELOAD}",
        f"rm -f {SSHD}; {RELOAD}",
        here={"LANG": "zh_CN.UTF-8", "LC_ALL": "zh_CN.UTF-8"},
    ),
    "no forwarding": Quirk(
        f"echo 'DisableForwarding yes' > {SSHD}; {RELOAD}", f"rm -f {SSHD}; {RELOAD}", forwards=False
    ),
    "a long TMPDIR": Quirk(here={"TMPDIR": "{long}"}),
}
EVERYTHING = "everything at once"
TOGETHER = [
    "noisy shell files",
    "ssh_config for people",
    "Python elsewhere",
    "umask 077",
    "/tmp noexec",
    "a long TMPDIR",
]


def joined(rows: list[Quirk]) -> Quirk:
    """Several quirks of one site."""
    return Quirk(
        " && ".join(f"( {row.on} )" for row in rows),
        "; ".join(f"( {row.off} )" for row in reversed(rows)),
        " ".join(row.inventory for row in rows),
        {name: value for row in rows for name, value in row.here.items()},
        all(row.forwards for row in rows),
    )


@dataclass
class Odd:
    """The cluster at a site with a quirk."""

    cluster: Cluster
    env: dict[str, str]
    forwards: bool

    def ok(self, *argv: str) -> str:
        """What a verb prints, that has to end well."""
        done = self.cluster.r1(*argv, env=self.env)
        assert done.code == 0, (argv, done.text)
        return done.out


def started(cluster: Cluster, quirk: Quirk, folder: Path) -> Odd:
    """A folder of the user's at such a site."""
    found = apart(cluster, folder)
    (folder / "r1deploy.lock").write_text((cluster.folder / "r1deploy.lock").read_text())
    config, long = folder / "ssh_config", folder / ("l" * 90)
    config.write_text(SSH_CONFIG)
    long.mkdir()
    words = quirk.inventory.format(config=config)
    path = folder / "inventory.ini"
    for host in HOSTS:
        path.write_text(path.read_text().replace(f"{host} ", f"{host} {words} ", 1))
    return Odd(found, {name: value.format(long=long) for name, value in quirk.here.items()}, quirk.forwards)


@pytest.fixture(params=[EVERYTHING, *(pytest.param(name, marks=pytest.mark.long) for name in QUIRKS)])
def odd(request: pytest.FixtureRequest, ready: Cluster, tmp_path: Path) -> Iterator[Odd]:
    name = request.param
    quirk = joined([QUIRKS[row] for row in TOGETHER]) if name == EVERYTHING else QUIRKS[name]
    done: list[str] = []
    assert not ready.plan() or ready.r1("bootstrap", "--yes").code == 0
    try:
        for host in HOSTS:
            done.append(host)
            ready.sh(host, quirk.on)
        yield started(ready, quirk, tmp_path)
    finally:
        for host in done:
            ready.lab.exec(host, "sh", "-c", quirk.off)


def test_every_verb_works(odd: Odd) -> None:
    """field.md 3.1, 3.2, 3.3, 3.7, 3.8, 3.12: what it finds, does and prints is as anywhere else."""
    odd.ok("preflight")
    # A Python that is elsewhere is named in the head's line.
    assert {row["step"] for row in json.loads(odd.ok("plan", "--json"))["changes"]} <= {"trust"}
    odd.cluster.sh("node2", "rm -r /var/lib/r1deploy/releases/*/config/*")
    odd.cluster.sh("node2", "rm -r /var/lib/r1deploy/trees/flaggems-*/FlagGems")
    assert "Ready to serve." in odd.ok("bootstrap", "--yes")
    assert json.loads(odd.ok("plan", "--json"))["changes"] == []
    assert json.loads(odd.ok("serve", "--json"))["answer"]
    try:
        found = json.loads(odd.ok("status", "--json", "--probe"))
        assert found["serving"] is True and all(set(row["steps"].values()) == {True} for row in found["hosts"])
        assert odd.ok("exec", "--", "sh", "-c", "echo $((40 + 2)); umask").splitlines() != []
        assert sorted(odd.ok("exec", "--", "id", "-u").splitlines()) == ["node1 | 0", "node2 | 0"]
        assert "node1 | " in odd.ok("logs", "-n", "5")
        assert json.loads(odd.ok("releases", "--json"))[0]["problems"] == []
        assert json.loads(odd.ok("history", "--json"))
        assert json.loads(odd.ok("lock", "status", "--json")) == {"held": False, "by": None}
        odd.ok("weights", "verify")
        if odd.forwards:
            with tunnel(odd.cluster, odd.env) as url, HERE.open(f"{url}/models", timeout=20) as answer:
                assert json.load(answer)["data"]
    finally:
        odd.ok("stop")


def test_rsync_through_a_shell_that_prints_is_named(ready: Cluster) -> None:
    """field.md 3.1: the cause, and what mends it; then nothing of it is left. Ports are closed: so rsync is needed."""
    quirk = QUIRKS["noisy shell files"]
    closed = "INPUT -p tcp --syn ! --dport 22 -j REJECT"
    ready.sh("node2", f"{quirk.on}; rm -r /var/lib/r1deploy/trees/flaggems-*/FlagGems")
    ready.sh("node1", f"iptables -I {closed}")
    try:
        refused(ready.r1("bootstrap", "--yes"), 6, "node2", "SHELL_NOISY")
    finally:
        ready.sh("node2", quirk.off)
        ready.sh("node1", f"iptables -D {closed}")
    assert ready.r1("bootstrap", "--yes").code == 0
    assert ready.plan() == []


def test_a_tunnel_is_tried_before_it_is_announced(ready: Cluster) -> None:
    """field.md 3.8: sshd forwards nothing, although ssh listens here."""
    quirk = QUIRKS["no forwarding"]
    ready.sh("node1", quirk.on)
    try:
        refused(ready.r1("tunnel", "--port", "0", timeout=60), 4, "TUNNEL_FAILED", "node1", "forwards no ports")
    finally:
        ready.sh("node1", quirk.off)


def test_sudo_that_wants_a_terminal_is_named(ready: Cluster, tmp_path: Path) -> None:
    """field.md 3.8: with the line that mends it, which is then done."""
    site = apart(ready, tmp_path)
    path = site.folder / "r1deploy.yaml"
    path.write_text(path.read_text().replace("  user: root\n", "  user: ops\n"))
    ready.sh("node2", "echo 'Defaults:ops requiretty' > /etc/sudoers.d/zz-tty")
    try:
        for verb in (["preflight"], ["plan"], ["exec", "--host", "node2", "--", "true"]):
            refused(site.r1(*verb), 5, "node2", "SUDO_TTY", "Defaults:ops !requiretty")
        ready.sh("node2", "echo 'Defaults:ops !requiretty' > /etc/sudoers.d/zz-tty")
        assert site.r1("preflight").code == 0
    finally:
        ready.sh("node2", "rm /etc/sudoers.d/zz-tty")


def background(cluster: Cluster, *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "r1deploy", *argv],
        cwd=cluster.folder,
        env={**os.environ, "COLUMNS": "80"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def first_line(run: subprocess.Popen[str]) -> str:
    assert run.stdout
    return run.stdout.readline()


def test_hosts_by_name(ready: Cluster, tmp_path: Path) -> None:
    """field.md 3.9: the head is let in on the workers from its address, whatever the inventory calls it."""
    site = apart(ready, tmp_path)
    (tmp_path / "r1deploy.lock").write_text((ready.folder / "r1deploy.lock").read_text())
    path, names = tmp_path / "inventory.ini", tmp_path / "hosts"
    text, known = path.read_text(), tmp_path / "known_hosts"
    names.write_text("127.0.0.1 localhost\n")
    known.write_text(ready.lab.layout.known_hosts.read_text())
    for number, host in enumerate(HOSTS, 11):
        text = text.replace(f"ansible_host={NET}.{number}", f"ansible_host={host}.site.example")
        with names.open("a") as file:
            file.write(f"{NET}.{number} {host}.site.example\n")
        known.write_text(known.read_text().replace(f"{NET}.{number},", f"{host}.site.example,"))
    path.write_text(text)
    settings = site.settings(ssh__known_hosts=known)

    def named(*argv: str) -> str:
        """A run where those names are known, to it alone."""
        script = f'mount --bind {names} /etc/hosts && exec "$@"'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-m", "r1deploy", *argv],
            cwd=tmp_path,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    assert json.loads(named("plan", "--json"))["changes"] == []
    ready.sh("node2", "sed -i '/ r1deploy:/d' /root/.ssh/authorized_keys")
    named("bootstrap", "--yes")
    assert f'from="{NET}.11"' in ready.sh("node2", "cat /root/.ssh/authorized_keys")
    try:
        assert json.loads(named("serve", "--json"))["answer"]
        assert json.loads(named("status", "--json", "--probe"))["serving"] is True
    finally:
        named("stop")
    assert ready.plan() == []


@pytest.mark.long
def test_a_link_that_drops_is_noticed(ready: Cluster) -> None:
    """field.md 3.4: not the 165 s and more of TCP."""
    rule = f"INPUT -s {gateway()} -p tcp --dport 22 -j DROP"
    with background(ready, "exec", "--host", "node2", "--", "sh", "-c", "echo begun; sleep 300") as run:
        assert "begun" in first_line(run)
        ready.sh("node2", f"iptables -I {rule}")
        try:
            began = time.monotonic()
            out = run.communicate(timeout=120)[0]
            assert run.returncode == 4 and "SSH_TIMEOUT" in out and time.monotonic() - began < 60, out
        finally:
            ready.sh("node2", f"iptables -D {rule}")


@pytest.mark.parametrize("argv", [["exec", "--", "sh", "-c", "echo begun; exec sleep 301"], ["logs", "-f"]])
def test_ctrl_c_ends_at_once(ready: Cluster, argv: list[str]) -> None:
    """field.md 3.10, 3.11: exit code 130, no traceback, nothing goes on; logs wait for what is not there yet."""
    with background(ready, *argv) as run:
        if "begun" in argv[-1]:
            assert "begun" in first_line(run)
        else:
            time.sleep(6)
            assert run.poll() is None, "it waits for the first line"
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        out = run.communicate(timeout=30)[0]
    assert run.returncode == 130 and "Traceback" not in out and time.monotonic() - began < 5, out
    time.sleep(2)
    for host in HOSTS:
        assert ready.lab.exec(host, "pgrep", "-f", "sleep 301|onhost.follow")[0] != 0, "it goes on there"


def test_standard_input_goes_through(ready: Cluster) -> None:
    """field.md 3.12."""
    with background(ready, "exec", "--host", "node1", "--", "cat") as run:
        out = run.communicate("data\nmore", timeout=60)[0]
    assert (run.returncode, out) == (0, "node1 | data\nnode1 | more\n")
