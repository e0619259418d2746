"""field.md 5.11: what an error about hosts advises is done on them, word for word, and mends the fault."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.lab.conftest import HOSTS, Cluster, Ran

pytestmark = pytest.mark.lab
MENDED = {
    "CONTAINER_FOREIGN",
    "CONTAINER_MISSING",
    "HOSTNAME_LOOPBACK",
    "IDENTITY_TWICE",
    "LIMIT_WITHOUT_HEAD",
    "NOT_BOOTSTRAPPED",
    "TTY_MISSING",
}
STRANGER = "stranger"
# All on node2: (fault, what puts back what the fix itself does not, the command in the fix).
FAULTS = {
    "CONTAINER_FOREIGN": (
        f"docker create --name {STRANGER} baai:v5",
        f"docker rm -f {STRANGER} {STRANGER}-old",
        r"docker rename [\w.-]+ [\w.-]+",
    ),
    "HOSTNAME_LOOPBACK": (
        "cp /etc/hosts /root/hosts.away; grep -v '[[:space:]]node2$' /root/hosts.away > /etc/hosts; "
        "echo '127.0.1.1 node2 other' >> /etc/hosts",
        "cat /root/hosts.away > /etc/hosts; rm -f /root/hosts.away /etc/hosts.old",
        r"cp /etc/hosts .*",
    ),
    "IDENTITY_TWICE": (
        "cp -p /etc/machine-id /root/id.away; echo 0123456789abcdef0123456789abcdef > /etc/machine-id",
        "cat /root/id.away > /etc/machine-id; rm /root/id.away",
        r"rm -f /etc/machine-id .*",
    ),
}


def here(cluster: Cluster, command: str, *more: str) -> Ran:
    """A command of ours, as a fix has it."""
    name, *argv = shlex.split(command)
    assert name == "r1deploy"
    return cluster.r1(*argv, *more)


def fixes(cluster: Cluster) -> dict[str, str]:
    """Failed findings of preflight: code → fix."""
    done = cluster.r1("preflight", "--json", env=cluster.settings(container__name=STRANGER))
    return {row["code"]: row["fix"] for row in json.loads(done.out)["checks"] if not row["ok"]}


@pytest.fixture
def broken(ready: Cluster) -> Iterator[Cluster]:
    """Two hosts of which the second has all the faults at once."""
    first = ready.sh("node1", "cat /etc/machine-id")
    try:
        ready.sh("node1", "echo 0123456789abcdef0123456789abcdef > /etc/machine-id")
        for fault, _, _ in FAULTS.values():
            ready.sh("node2", fault)
        yield ready
    finally:
        ready.sh("node1", f"printf '%s' '{first}' > /etc/machine-id")
        for _, undo, _ in FAULTS.values():
            ready.lab.exec("node2", "sh", "-c", undo)


def test_what_preflight_advises_mends_the_host(broken: Cluster) -> None:
    said = fixes(broken)
    assert set(FAULTS) <= set(said)
    for code, (_, _, pattern) in FAULTS.items():
        command = re.search(pattern, said[code])
        assert command, said[code]
        broken.sh("node2", command[0])
    left = fixes(broken)
    assert set(left) & set(FAULTS) == set(), left
    assert "127.0.1.1 other" in " ".join(broken.sh("node2", "cat /etc/hosts").split())


def advised(done: Ran, code: int, name: str, pattern: str) -> str:
    """The command in the fix of an error."""
    assert done.code == code and name in done.err, done.err
    command = re.search(pattern, done.text.partition("Fix: ")[2])
    assert command, done.err
    return command[0]


def test_bootstrap_brings_a_stopped_container_back(ready: Cluster) -> None:
    ready.sh("node2", "docker stop -t 1 $(docker ps -q)")
    command = advised(ready.r1("serve"), 5, "NOT_BOOTSTRAPPED", r"r1deploy bootstrap")
    run = ("exec", "--host", "node2", "--", "true")
    assert advised(ready.r1(*run), 5, "CONTAINER_MISSING", r"r1deploy bootstrap") == command
    # On a terminal it asks; here the user's word stands in the command.
    assert here(ready, command, "--yes").code == 0
    assert ready.r1(*run).code == 0
    assert ready.plan() == []


def test_the_limit_that_is_advised_has_the_head(ready: Cluster) -> None:
    flags = advised(ready.r1("bootstrap", "--limit", "node2"), 2, "LIMIT_WITHOUT_HEAD", r"--limit \S+")
    done = ready.r1("bootstrap", *flags.split())
    assert done.code == 0, done.err
    assert flags.split()[1].split(",") == list(HOSTS)


def test_exec_does_what_shell_cannot(ready: Cluster) -> None:
    command = advised(ready.r1("shell"), 2, "TTY_MISSING", r"r1deploy exec -- COMMAND")
    done = here(ready, command.replace("COMMAND", "echo here"))
    assert done.code == 0 and "here" in done.out
