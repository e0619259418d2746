"""Users without any rights, on a host and on this machine, have no lever (field.md, sections 1 and 2)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import Cluster

pytestmark = pytest.mark.lab
# What a user of a host can do: names that are templates and escape sequences, links, pipes, folders where ours were.
PLANT = r"""
cd /dev/shm
touch "r1deploy-{{ lookup('pipe', 'touch MARK') }}" "$(printf 'r1deploy-\033[2J\033]0;x\007')"
ln -s /etc/shadow r1deploy-link; mkfifo r1deploy-pipe; mkdir r1deploy-folder
ln -s /etc/passwd /run/lock/r1deploy-weights-0.lock; mkfifo /run/lock/r1deploy-lab.lock
mkdir -p /tmp/r1deploy /tmp/.ansible/tmp
"""
TAKE_BACK = "rm -rf /dev/shm/r1deploy-* /run/lock/r1deploy-* /tmp/r1deploy /tmp/.ansible"
# Holds every file that it may open, and every folder. Says how many.
HOLD = """
import fcntl, os, time
held = []
for top in ("/var/lib/r1deploy", "/run/r1deploy", "/run/lock", "/tmp", "/root", "/mnt/share"):
    for folder, _, files in os.walk(top):
        for path in [folder] + [os.path.join(folder, name) for name in files]:
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(handle)
            except OSError:
                pass
        if len(held) > 900:
            break
print(len(held), flush=True)
time.sleep(600)
"""
# Answers on a port: one byte a second, for ever.
DRIP = """
import socket, threading, time
def drip(opened):
    try:
        for byte in b"HTTP/1.1 200 OK\\r\\nContent-Length: 100000\\r\\n\\r\\n" + b"x" * 100000:
            opened.sendall(bytes([byte])); time.sleep(1)
    except OSError:
        pass
listening = socket.create_server(("0.0.0.0", 9010), backlog=50)
print("listens", flush=True)
while True:
    threading.Thread(target=drip, args=(listening.accept()[0],), daemon=True).start()
"""


class Nobody:
    """A user without rights on a lab host."""

    def __init__(self, cluster: Cluster, host: str) -> None:
        self.cluster, self.host = cluster, host

    def sh(self, script: str) -> None:
        """Run a script as that user."""
        code, out = self.cluster.lab.exec(self.host, "setpriv", "--reuid=nobody", "--clear-groups", "sh", "-c", script)
        assert code == 0, out

    @contextlib.contextmanager
    def at_work(self, program: str) -> Iterator[str]:
        """A Python program of that user's until the end; its first line."""
        self.cluster.sh(self.host, f"cat > /tmp/of-nobody.py <<'END'\n{program}\nEND")
        self.sh("nohup python3 /tmp/of-nobody.py > /tmp/said-nobody 2>&1 & echo $! > /tmp/pid-nobody")
        try:
            end = time.monotonic() + 20
            while not (said := self.cluster.sh(self.host, "cat /tmp/said-nobody").strip()):
                assert time.monotonic() < end, "it says nothing"
                time.sleep(0.1)
            yield said
        finally:
            gone = "kill $(cat /tmp/pid-nobody); rm -f /tmp/of-nobody.py /tmp/said-nobody /tmp/pid-nobody"
            self.cluster.sh(self.host, gone)


def test_planted_names_are_not_ours(ready: Cluster, tmp_path: Path) -> None:
    """field.md 1.1, 1.5, 2.2: nothing is run, shown raw, followed or taken away."""
    mark, nobody = tmp_path / "ran", Nobody(ready, "node2")
    nobody.sh(PLANT.replace("MARK", str(mark)))
    listed = "ls -lA /dev/shm /run/lock /etc/passwd /etc/shadow"
    before = ready.sh(nobody.host, listed)
    try:
        plan = ready.r1("plan")
        assert plan.code == 0 and "Nothing to change." in plan.out, plan.text
        ready.sh(nobody.host, "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
        done = ready.r1("bootstrap", "--yes")
        assert done.code == 0, done.text
        for verb in (["status"], ["preflight", "-v"], ["lock", "status"], ["weights", "verify"]):
            said = ready.r1(*verb)
            assert said.code == 0, said.text
            assert "\033" not in said.out + said.err
        assert not mark.exists() and "\033" not in plan.out + plan.err + done.out + done.err
        assert ready.sh(nobody.host, listed) == before
    finally:
        ready.sh(nobody.host, TAKE_BACK)


def test_held_files_hold_nobody_up(ready: Cluster) -> None:
    """field.md 2.1, 2.2: who may open a file may lock it; none of these is a lock of ours."""
    nobody = Nobody(ready, "node1")
    # All that is built is built again: each job takes its lock.
    ready.sh(nobody.host, "rm -f /var/lib/r1deploy/trees/*/built.json /var/lib/r1deploy/releases/*/config/*/env.sh")
    with nobody.at_work(HOLD) as count:
        assert int(count) > 20, "the test would see nothing: no file is held"
        began = time.monotonic()
        done = ready.r1("bootstrap", "--yes")
        assert done.code == 0, done.text
        verified = ready.r1("weights", "verify")
        assert verified.code == 0, verified.text
        free = ready.r1("lock", "status")
        assert free.code == 0 and "Nobody holds the cluster." in free.text, free.text
        assert time.monotonic() - began < 400, "held up"
    code, out = ready.lab.exec(nobody.host, "setpriv", "--reuid=nobody", "--clear-groups", "ls", "/run/r1deploy")
    assert code != 0 and "ermission denied" in out


def test_a_stranger_at_the_port_of_the_service(ready: Cluster) -> None:
    """field.md 1.3: a byte a second is no answer; each part of a look has an end, and so has the whole."""
    stranger = Nobody(ready, "node1")
    ready.r1("stop")
    with stranger.at_work(DRIP):
        for verb in (["status"], ["status", "--probe"], ["plan"], ["preflight"]):
            began = time.monotonic()
            said = ready.r1(*verb, timeout=200)
            assert said.code in (0, 5) and time.monotonic() - began < 100, said.text
            assert "serves deepseek" not in said.text and "BUG" not in said.text
        found = json.loads(ready.r1("status", "--json").out)
        assert found["serving"] is False
        refused = ready.r1("serve")
        assert refused.code == 5 and "PORT_TAKEN" in refused.text, refused.text


def here(script: str) -> None:
    """Run a script as a user without rights on this machine."""
    done = subprocess.run(["sh", "-c", script], user="nobody", group="nogroup", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="to be another user needs root")
def test_a_user_of_this_machine(ready: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 2.3: pipes, links, folders and held folders under our names in the temporary folder."""
    place = Path(tempfile.mkdtemp(prefix="r1t-"))
    place.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(place))
    secret = place.parent / f"{place.name}-of-root"
    secret.write_text("ours")
    names = f"{place}/r1deploy-run-0-"
    here(f"mkfifo {names}pipe; ln -s {secret} {names}link; mkdir {names}folder; ln -s /root {names}home")
    here(f"mkdir -m 0777 {place}/r1deploy-cp-0; touch '{names}{{{{ 1 }}}}'")
    holder = subprocess.Popen(
        ["python3", "-c", f"import fcntl, os, time; fcntl.flock(os.open('{names}folder', 0), 2); time.sleep(300)"],
        user="nobody",
        group="nogroup",
    )
    before = sorted(path.name for path in place.iterdir())
    try:
        for verb in (["plan"], ["exec", "--", "true"], ["logs", "-n", "1"], ["bootstrap", "--yes"]):
            done = ready.r1(*verb, timeout=300)
            assert done.code == 0, done.text
        assert secret.read_text() == "ours"
        assert sorted(path.name for path in place.iterdir()) == before
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        shutil.rmtree(place)
        secret.unlink()


def test_the_listening_port_is_free_again(ready: Cluster) -> None:
    """What the tests above started is gone."""
    with socket.socket() as probe:
        probe.settimeout(2)
        assert probe.connect_ex((ready.lab.hosts()[0].address, 9010)) != 0
