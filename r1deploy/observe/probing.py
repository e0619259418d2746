"""Probe the hosts: one remote execution each, over plain SSH; Ansible only reads the inventory."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from r1deploy.ansible.failures import Failure
from r1deploy.ansible.runner import REMOTE_TMP, Target, at_the_jump_host
from r1deploy.cluster.host import Host
from r1deploy.cluster.inventories import hosts_from_hostvars
from r1deploy.modes import mode_of
from r1deploy.observe.ansiblerows import Rows, inventory_rows
from r1deploy.observe.looks import TASK, look_at
from r1deploy.planning.layout import lock_file
from r1deploy.planning.observed import Incomplete, Observed, observed_of
from r1deploy.settings.model import Settings
from r1deploy.settings.volumes import volume_pairs, weights_host_path
from r1deploy.ssh import login_of

TRUST_USER = "root"
# One time for the whole look at a host, and what its answer may have in bytes.
SECONDS, LIMIT = 60, 4 << 20
# sshd drops logins when too many are under way: those hosts are looked at again.
LOGIN_ATTEMPTS = 4


@dataclass
class Probed:
    """The cluster as Ansible reads it, what each host that answered said, and why the others did not.

    ``grouped``: the inventory has a group of the cluster's; else all its hosts are taken.
    """

    hosts: tuple[Host, ...]
    observed: dict[str, Observed] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    login: dict[str, dict[str, Any]] = field(default_factory=dict)
    grouped: bool = True


def request_of(settings: Settings, folders: tuple[str, ...]) -> dict[str, Any]:
    """What the probe has to look at; the same for all hosts."""
    return {
        "cluster": settings.cluster,
        "container": settings.container.name,
        "image": settings.image.name,
        "state_dir": settings.state_dir,
        "folders": list(folders),
        "ports": list(mode_of(settings.service.mode).ports(settings).values()),
        "trust_user": TRUST_USER,
        "lock": lock_file(settings.cluster),
        "remote_tmp": REMOTE_TMP,
        "weights": weights_host_path(settings),
        "model": settings.engine.model,
        "volumes": volume_pairs(settings),
        "chip": settings.chip.model_dump(),
        "seconds": SECONDS,
        "limit": LIMIT,
    }


def probe(target: Target, settings: Settings, folders: tuple[str, ...] = ()) -> Probed:
    """Look at every host of the inventory.

    Raises ConfigError where Ansible cannot read the inventory, UsageError where it has no hosts.
    """
    rows = inventory_rows(target)
    hosts = hosts_in(rows, settings)
    probed = Probed(hosts, login=by_name(rows), grouped=all(row["grouped"] for row in rows))
    answers = answers_of(target, probed, request_of(settings, folders))
    for host in hosts:
        answer = answers[host.name]
        if isinstance(answer, Failure):
            probed.failures[host.name] = named(answer)
        else:
            take(probed, host.name, answer)
    probed.hosts = tuple(numbered(host, probed.observed.get(host.name)) for host in hosts)
    return probed


def answers_of(target: Target, probed: Probed, request: Mapping[str, Any]) -> dict[str, Any | Failure]:
    """What each host answers, or why not; where its login was dropped, it is asked again."""
    logins = {
        host.name: replace(login_of(host, probed.login.get(host.name, {}), target.ssh), sockets=target.sockets)
        for host in probed.hosts
    }
    answers: dict[str, Any | Failure] = {}
    left: Sequence[str] = list(logins)
    for attempt in range(LOGIN_ATTEMPTS):
        # Not all of them again at the same moment as others who were dropped.
        time.sleep(attempt * random.uniform(0.5, 1.5))
        answers.update(look_at([logins[name] for name in left], request))
        failures = [row for name in left if isinstance(row := answers[name], Failure)]
        failures = at_the_jump_host(target.ssh, failures)
        answers.update({row.host: row for row in failures})
        left = [row.host for row in failures if row.code == "SSH_DROPPED"]
        if not left:
            break
    return answers


def hosts_in(rows: Rows, settings: Settings) -> tuple[Host, ...]:
    """The hosts of the rows, in their order. Raises ConfigError."""
    return tuple(hosts_from_hostvars([row["name"] for row in rows], by_name(rows), settings.slots))


def numbered(host: Host, seen: Observed | None) -> Host:
    """A host with the number that its name stands for: vLLM and Ray take numbers, and so does ``from=`` of a key.

    In: what was seen of it; where it does not answer, this machine's word is taken.
    """
    number = seen.net.ip if seen else None
    with contextlib.suppress(OSError, ValueError):
        if str(ipaddress.ip_address(host.address)) == host.address:
            return host
    with contextlib.suppress(OSError):
        number = number or socket.gethostbyname(host.address)
    if number is None or number.startswith("127."):
        return host
    return replace(host, address=number, reach=host.reach or host.address)


def read_hosts(target: Target, settings: Settings) -> tuple[Host, ...]:
    """The hosts of an inventory as Ansible reads it; none of them is contacted. Raises ConfigError, UsageError."""
    return hosts_in(inventory_rows(target), settings)


def by_name(rows: Rows) -> dict[str, dict[str, Any]]:
    """Rows of the inventory by host name."""
    return {row["name"]: row for row in rows}


def take(probed: Probed, name: str, answer: object) -> None:
    """Read one host's answer; what does not fit the schema is "incomplete", never "nothing there"."""
    try:
        probed.observed[name] = observed_of(answer)
    except Incomplete as error:
        probed.failures[name] = incomplete(name, str(error))


def named(failure: Failure) -> Failure:
    """A failure of the probe's own task: the host let us in and gave no answer that can be used."""
    if failure.code != "STEP_FAILED":
        return failure
    return replace(failure, code="PROBE_INCOMPLETE", message=f"the probe is incomplete: {failure.message}")


def incomplete(host: str, why: str) -> Failure:
    """A probe that gave no usable answer."""
    return Failure(host, "probe", TASK, "PROBE_INCOMPLETE", f"the probe is incomplete: {why}")
