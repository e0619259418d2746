"""Steps × faults: wherever a run is cut, the next one comes to the same state and nothing stays behind.

The short part runs with the other tests: a kill and two signals, in the steps that take long.
The whole matrix is ``make test-faults``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.conftest import HOSTS, Cluster
from tests.lab.running import Running, assert_hosts_let_go, assert_nothing_left, refused, state

pytestmark = pytest.mark.lab
TREES = "/var/lib/r1deploy/trees"
# What gives a step work, on which host, and the line of progress at which to cut.
STEPS: dict[str, tuple[str, str]] = {
    "host": ("node2", "rm -rf /var/lib/r1deploy/bin/r1trust.py"),
    "image": ("node2", "docker rmi -f baai:v5 >/dev/null 2>&1 || true"),
    "container": ("node2", "docker ps -q | xargs -r docker rm -f >/dev/null"),
    "sources": ("node1", f"rm -rf {TREES}/flaggems-*/* {TREES}/flaggems-*/.job"),
    "patch": ("node1", f"rm {TREES}/flagscale-*/patched.json"),
    "vllm": ("node1", f"rm {TREES}/flagscale-*/built.json {TREES}/flagscale-*/manifest.json"),
    "install": ("node2", "docker exec $(docker ps -q) pip uninstall -qy vllm"),
    "trust": ("node2", "sed -i 's/restrict,//' /root/.ssh/authorized_keys"),
    # The newest one, with the API key: what an older release needs is looked after by rollback.
    "config": ("node2", "rm $(ls -td /var/lib/r1deploy/releases/*/config/* | head -n 1)/env.sh"),
}
# The task of a step that takes longest: to cut there is to cut in the middle.
MIDDLE = {
    "image": "goes from host to host",
    "container": "Run the container",
    "sources": "Build the wheel|Clone",
    "patch": "Run the job",
    "vllm": "Run the job",
    "install": "Run the job",
    "trust": "Let the head in",
}


def kill(_: Cluster, run: Running) -> None:
    run.kill()


def terminate(_: Cluster, run: Running) -> None:
    run.process.send_signal(signal.SIGTERM)
    assert run.end(60) == 130, run.text
    assert "stopped by SIGTERM" in run.text and "Ctrl-C" not in run.text


def hang_up(_: Cluster, run: Running) -> None:
    run.process.send_signal(signal.SIGHUP)
    assert run.end(60) == 130, run.text
    assert "stopped by SIGHUP" in run.text


def close_the_terminal(_: Cluster, run: Running) -> None:
    run.close_terminal()
    assert run.end(60) == 130, run.text


def out_of_memory(_: Cluster, run: Running) -> None:
    os.kill(run.ansible(), signal.SIGKILL)
    assert run.end() == 6, run.text


def interrupt(_: Cluster, run: Running) -> None:
    run.interrupt()
    assert run.end(60) == 130, run.text
    assert "Ctrl-C" in run.text


def interrupt_twice(_: Cluster, run: Running) -> None:
    run.interrupt()
    time.sleep(0.05)
    run.interrupt()
    started = time.monotonic()
    assert run.end(60) in (130, -signal.SIGINT), run.text
    assert time.monotonic() - started < 20


def kill_the_job(cluster: Cluster, run: Running) -> None:
    """What runs on the hosts for the step ends in the middle: a build, an installation, a module."""
    for host in HOSTS:
        names = "[r]1guest|[A]nsiballZ|[p]ip (wheel|install)|[b]uild_vllm"
        script = f"ps -eo pid,args | awk '/{names}/ {{print $1}}' | xargs -r kill -9"
        cluster.lab.exec(host, "sh", "-c", script)
    run.end()


def drop_the_network(cluster: Cluster, run: Running) -> None:
    rule = "INPUT -p tcp --dport 22 -j DROP"
    cluster.sh("node2", f"iptables -I {rule}")
    try:
        code = run.end(120)
        assert code in (0, 4, 6), run.text
    finally:
        cluster.sh("node2", f"iptables -D {rule}")


def restart_the_engine(cluster: Cluster, run: Running) -> None:
    cluster.sh("node2", "kill $(cat /run/docker.pid)")
    run.end()
    cluster.lab.reboot("node2")


def reboot(cluster: Cluster, run: Running) -> None:
    cluster.lab.reboot("node2")
    run.end()


# Ways in which r1deploy itself ends.
ENDINGS: dict[str, Callable[[Cluster, Running], None]] = {
    "kill -9": kill,
    "Ctrl-C": interrupt,
    "Ctrl-C twice": interrupt_twice,
    "SIGTERM": terminate,
    "SIGHUP": hang_up,
    "terminal closed": close_the_terminal,
    "out of memory": out_of_memory,
}
FAULTS: dict[str, Callable[[Cluster, Running], None]] = {
    **ENDINGS,
    "job killed": kill_the_job,
    "network dropped": drop_the_network,
    "engine killed": restart_the_engine,
    "host rebooted": reboot,
}
# The rest is the long part.
SHORT = {
    ("kill -9", "vllm"),
    ("SIGHUP", "vllm"),
    ("SIGTERM", "install"),
}
MATRIX = [
    pytest.param(fault, step, id=f"{step}: {fault}", marks=[] if (fault, step) in SHORT else [pytest.mark.faults])
    for step in STEPS
    for fault in FAULTS
]


@pytest.fixture(scope="module")
def api_key(ready: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A canary: the cluster has an API key while it is cut."""
    key = "canary-of-the-cuts-51c0"
    path = tmp_path_factory.mktemp("secrets") / "api-key"
    path.touch(mode=0o600)
    path.write_text(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1DEPLOY_SERVICE__API_KEY_FILE", str(path))
        assert ready.r1("bootstrap", "--yes").code == 0
        yield key


@pytest.fixture(scope="module")
def undisturbed(ready: Cluster, api_key: str) -> Iterator[dict[str, Any]]:
    """The state that every run has to come to."""
    found = state(ready)
    assert found["plan"] == []
    yield found


@pytest.mark.parametrize(("fault", "step"), MATRIX)
def test_the_next_run_comes_to_the_same_state(
    ready: Cluster, undisturbed: dict[str, Any], api_key: str, fault: str, step: str
) -> None:
    """field.md 6.1, 6.2, 2.4: what ends the run ends all of it, and the next one goes on from there."""
    host, script = STEPS[step]
    ready.sh(host, script)
    with Running(ready, "bootstrap", "--yes", terminal=fault == "terminal closed") as run:
        run.until(rf"s  {step} +({MIDDLE.get(step, '')})")
        FAULTS[fault](ready, run)
        run.assert_whole()
    if fault in ENDINGS:
        assert_hosts_let_go(ready)
    again = ready.r1("bootstrap", "--yes", "--wait")
    assert again.code == 0, (run.text[-3000:], again.err)
    assert state(ready) == undisturbed
    assert_nothing_left(ready, run.text, again.out, again.err, api_key=api_key)


SERVE = [
    pytest.param(fault, at, marks=[] if (fault, at) == ("kill -9", "loading") else [pytest.mark.faults])
    for fault in ("kill -9", "Ctrl-C", "host rebooted")
    for at in ("Put the container in place", "Run flagscale serve", "loading")
]


@pytest.mark.parametrize(("fault", "at"), SERVE)
def test_serve_is_cut(ready: Cluster, api_key: str, fault: str, at: str) -> None:
    ready.lab.set_engine_fault("node1", None, load_seconds=6)
    try:
        with Running(ready, "serve") as run:
            run.until(at if at == "loading" else rf"s  service +{at}")
            FAULTS[fault](ready, run)
            run.assert_whole()
        if (fault, at) == ("Ctrl-C", "loading"):
            # field.md 6.3
            assert "the engine on node1 goes on loading" in run.text and "r1deploy stop ends it" in run.text
        again = ready.r1("serve", "--wait")
        if fault == "host rebooted" and again.code:
            # Its containers do not start by themselves; a run that still reached it has started them when it gave up.
            refused(again, 5, "NOT_BOOTSTRAPPED", "stopped → running", "r1deploy bootstrap")
            assert ready.r1("bootstrap", "--yes").code == 0
            again = ready.r1("serve", "--wait")
        assert again.code == 0, (run.text[-3000:], again.err)
        if (fault, at) == ("kill -9", "loading"):
            assert "an interrupted run has started it already" in again.err
        assert ready.r1("serve").out.startswith("Serves already.")
        assert ready.plan() == []
    finally:
        ready.lab.set_engine_fault("node1", None)
        assert ready.r1("stop").code == 0
    assert_nothing_left(ready, run.text, again.out, again.err, api_key=api_key)


@pytest.mark.faults
def test_a_full_disk(ready: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The state folder on a file system of its own that is too small: said as such, and resumed when it has room."""
    place = "/mnt/r1small"
    for host in HOSTS:
        ready.sh(host, f"mkdir -p {place} && mount -t tmpfs -o size=1m tmpfs {place}")
    env = ready.settings(state_dir=f"{place}/state", disk__state_gib=0, container__name="r1small")
    try:
        done = ready.r1("bootstrap", "--yes", env=env)
        assert (done.code, "DISK_FULL" in done.text) == (6, True), done.err
        for host in HOSTS:
            ready.sh(host, f"mount -o remount,size=500m {place}")
        done = ready.r1("bootstrap", "--yes", env=env)
        assert done.code == 0, done.err
    finally:
        for host in HOSTS:
            ready.lab.exec(host, "sh", "-c", "docker ps -aq --filter name=r1small | xargs -r docker rm -f")
            script = f"umount -l {place}; rmdir {place}"
            ready.lab.exec(host, "sh", "-c", script)
    assert ready.r1("bootstrap", "--yes").code == 0
    assert ready.plan() == []
