"""Probe the hosts: one remote execution each, through the one door to Ansible."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from r1deploy.ansible.failures import Failure
from r1deploy.ansible.folder import run_folder
from r1deploy.ansible.runner import REMOTE_TMP, Outcome, Play, Target, Watch, read_inventory, run
from r1deploy.cluster.host import Host
from r1deploy.cluster.inventories import hosts_from_hostvars
from r1deploy.errors import ConfigError, UsageError
from r1deploy.modes import mode_of
from r1deploy.planning.layout import lock_file
from r1deploy.planning.observed import Incomplete, Observed, observed_of
from r1deploy.settings.model import Settings, Ssh
from r1deploy.settings.volumes import volume_pairs, weights_host_path
from r1deploy.ssh import ADDRESS, PORT, USER, Login, first_of, login_of

TRUST_USER = "root"
# One time for the whole look at a host, and what its answer may have in bytes.
SECONDS, LIMIT = 60, 4 << 20
# sshd drops logins when too many are under way: those hosts are looked at again.
LOGIN_ATTEMPTS = 4
# What Ansible colours its words with.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


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

    Raises ConfigError where Ansible cannot read the inventory or it has no hosts.
    """
    with run_folder() as folder:
        rows_file = folder / "inventory.json"
        variables = {"r1_probe_request": request_of(settings, folders), "r1_inventory_out": str(rows_file)}
        outcome = Outcome()
        for attempt in range(LOGIN_ATTEMPTS):
            left = dropped_logins(outcome)
            if attempt and not left:
                break
            time.sleep(attempt)
            place = folder / str(attempt)
            place.mkdir()
            play = Play("probe.yml", variables=variables, folder=place, limit=",".join(left) or None)
            again = run(target, play, Watch(logins=functools.partial(login_in, rows_file, target.ssh)))
            outcome = again if not attempt else merged(outcome, again, left)
        rows = rows_of(target, outcome, rows_file)
    hosts = hosts_in(rows, settings)
    probed = Probed(hosts, login=by_name(rows))
    order = {host.name: number for number, host in enumerate(hosts)}
    failures = sorted(outcome.failures, key=lambda row: order.get(row.host, len(order)))
    probed.failures = {failure.host: named(failure) for failure in failures}
    for host in hosts:
        answer = outcome.results.get(host.name)
        if answer is None and host.name not in probed.failures:
            probed.failures[host.name] = incomplete(host.name, "no answer")
        if answer is not None and host.name not in probed.failures:
            take(probed, host.name, answer)
    probed.grouped = all(row["grouped"] for row in rows)
    probed.hosts = tuple(numbered(host, probed.observed.get(host.name)) for host in hosts)
    return probed


def rows_of(target: Target, outcome: Outcome, path: Path) -> list[dict[str, Any]]:
    """What Ansible read in the inventory. Raises ConfigError, UsageError where there is nothing."""
    rows = read_inventory(path)
    if rows is not None:
        return rows
    if outcome.tail and not outcome.ok:
        said = [COLOUR.sub("", line) for line in outcome.tail if not line.startswith("PLAY ")]
        fix = (
            f"ansible-inventory -i {shlex.quote(str(target.inventory))} --list says what is wrong; vaults are not read"
        )
        raise ConfigError("INVENTORY_INVALID", f"{target.inventory}: Ansible cannot read it", evidence=said, fix=fix)
    raise UsageError(
        "INVENTORY_EMPTY",
        f"{target.inventory}: no hosts in it",
        fix=f"r1deploy inventory HOSTFILE > {shlex.quote(str(target.inventory))}",
    )


def hosts_in(rows: list[dict[str, Any]], settings: Settings) -> tuple[Host, ...]:
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


def dropped_logins(outcome: Outcome) -> list[str]:
    """Hosts whose sshd, or jump host, dropped the login: too many were under way at once."""
    return [row.host for row in outcome.failures if row.code == "SSH_DROPPED"]


def merged(first: Outcome, again: Outcome, hosts: list[str]) -> Outcome:
    """What came of two looks, the second one at some hosts only."""
    failures = [row for row in first.failures if row.host not in hosts] + again.failures
    return replace(again, results={**first.results, **again.results}, failures=failures)


def login_in(path: Path, ssh: Ssh, name: str) -> Login | None:
    """How to reach a host, by what Ansible has just read in the inventory."""
    row = by_name(read_inventory(path) or []).get(name)
    if row is None:
        return None
    address = str(first_of(row, ADDRESS) or name)
    port, user = first_of(row, PORT), first_of(row, USER)
    host = Host(name, address, 1, port=int(port) if str(port).isdigit() else None, user=str(user) if user else None)
    return login_of(host, row, ssh)


def read_hosts(target: Target, settings: Settings) -> tuple[Host, ...]:
    """The hosts of an inventory as Ansible reads it; none of them is contacted. Raises ConfigError, UsageError."""
    with run_folder() as folder:
        path = folder / "inventory.json"
        play = Play("inventory.yml", variables={"r1_inventory_out": str(path)}, folder=folder)
        outcome = run(target, play, Watch())
        return hosts_in(rows_of(target, outcome, path), settings)


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows of the inventory by host name."""
    return {row["name"]: row for row in rows}


def take(probed: Probed, name: str, answer: Mapping[str, Any]) -> None:
    """Read one host's answer; what does not fit the schema is "incomplete", never "nothing there"."""
    try:
        probed.observed[name] = observed_of(answer.get("probe"))
    except Incomplete as error:
        probed.failures[name] = incomplete(name, str(error))


def named(failure: Failure) -> Failure:
    """A failure of the probe's own task: the host let us in and gave no answer that can be used."""
    if failure.code != "STEP_FAILED":
        return failure
    return replace(failure, code="PROBE_INCOMPLETE", message=f"the probe is incomplete: {failure.message}")


def incomplete(host: str, why: str) -> Failure:
    """A probe that gave no usable answer."""
    return Failure(host, "probe", "Look at the host", "PROBE_INCOMPLETE", f"the probe is incomplete: {why}")
