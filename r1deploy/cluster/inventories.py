"""Ansible's inventory: written from a hostfile, and read back as hosts.

Only Ansible reads an inventory (ranges, groups, jump hosts, vaults are its
own); what comes in here are the variables that it has for each host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from r1deploy.cluster import hostfile
from r1deploy.cluster.host import Host
from r1deploy.cluster.hostfile import HostEntry
from r1deploy.errors import ConfigError

GROUP = "cluster"
HEADER = f"""\
# The hosts of the cluster, one a line: an Ansible inventory.
# The first host is the head: it runs the API and the first stage of the model.
#   ansible_host  where this machine reaches the host (a name or an IPv4 address)
#   slots         accelerator chips of the host
#   type          gpu or cpu
# If the hosts reach each other by another address, add r1_address=ADDRESS.
# All else is Ansible's: ansible_user, ansible_port, ansible_ssh_private_key_file,
# ansible_ssh_common_args='-J jump', ranges such as node[01:16], a [{GROUP}:vars] section.
"""
# A host must not have the name of a group.
_TAKEN = frozenset({GROUP, "all", "ungrouped"})


def render(entries: Sequence[HostEntry]) -> str:
    """Return the text of ``inventory.ini`` for the hosts of a hostfile, the head first.

    A host name stays the inventory name; an IP address becomes node1, node2, … by its place.
    """
    names = _names(entries)
    lines = [_line(name, entry) for name, entry in zip(names, entries, strict=True)]
    return f"{HEADER}\n[{GROUP}]\n" + "".join(f"{line}\n" for line in lines)


def to_hostfile(hosts: Sequence[Host]) -> str:
    """Return the hostfile for FlagScale, in the order of ``hosts``."""
    return hostfile.render([HostEntry(host.address, host.slots, host.type) for host in hosts])


def hosts_from_hostvars(
    order: Sequence[str], hostvars: Mapping[str, Mapping[str, object]], default_slots: int
) -> list[Host]:
    """Return the hosts in the inventory's ``order``; the first is the head.

    ``hostvars`` maps an inventory name to Ansible's variables of it; ``default_slots`` holds where
    they say nothing. Raises ConfigError (INVENTORY_EMPTY, INVENTORY_VALUE, HOSTFILE_*), with all problems.
    """
    if not order:
        raise ConfigError(
            "INVENTORY_EMPTY",
            "the inventory names no host",
            fix="write one line a host, or make it from a hostfile: r1deploy inventory HOSTFILE",
        )
    problems: list[tuple[str, str, str]] = []
    hosts = [_host(name, hostvars.get(name, {}), default_slots, problems) for name in order]
    problems += _duplicates(hosts)
    if problems:
        raise _refusal(problems)
    return [_with_head(host, is_head=index == 0) for index, host in enumerate(hosts)]


def _names(entries: Sequence[HostEntry]) -> list[str]:
    named = {entry.address for entry in entries if _is_name(entry.address)}
    numbers = [place for place, entry in enumerate(entries, start=1) if not _is_name(entry.address)]
    prefix = "node"
    while named & {f"{prefix}{place}" for place in numbers}:
        prefix = f"r1-{prefix}"
    return [
        entry.address if _is_name(entry.address) else f"{prefix}{place}" for place, entry in enumerate(entries, start=1)
    ]


def _is_name(address: str) -> bool:
    """Return whether ``address`` can be an inventory name as it is."""
    return address not in _TAKEN and not address.replace(".", "").isdigit()


def _line(name: str, entry: HostEntry) -> str:
    words = [name]
    if name != entry.address:
        words.append(f"ansible_host={entry.address}")
    words.append(f"slots={entry.slots}")
    if entry.type is not None:
        words.append(f"type={entry.type}")
    return " ".join(words)


def _host(name: str, hostvars: Mapping[str, object], default_slots: int, problems: list[tuple[str, str, str]]) -> Host:
    """Return the host as far as its variables are right; the rest goes to ``problems`` (code, host, text)."""
    kind = hostvars.get("type") or hostfile.DEFAULT_TYPE
    if kind not in hostfile.TYPES:
        problems.append(("HOSTFILE_TYPE", name, f"type={kind!r}: it must be {' or '.join(hostfile.TYPES)}"))
    address, reach = _address(name, hostvars, problems), _reach(name, hostvars, problems)
    return Host(
        name=name,
        address=address,
        slots=_slots(name, hostvars.get("slots", default_slots), problems),
        type=str(kind),
        port=_port(name, _first(hostvars, "ansible_port", "ansible_ssh_port"), problems),
        user=_user(name, _first(hostvars, "ansible_user", "ansible_ssh_user"), problems),
        reach=None if reach == address else reach,
    )


def _first(hostvars: Mapping[str, object], *names: str) -> object:
    return next((hostvars[name] for name in names if hostvars.get(name) not in (None, "")), None)


def _address(name: str, hostvars: Mapping[str, object], problems: list[tuple[str, str, str]]) -> str:
    address = str(_first(hostvars, "r1_address", "ansible_host", "ansible_ssh_host") or name)
    problem = hostfile.address_problem(address)
    if problem:
        text = f"address {address!r}: {problem}; set r1_address=ADDRESS for it, a name or an IPv4 address"
        problems.append(("HOSTFILE_ADDRESS", name, text))
    return address


def _reach(name: str, hostvars: Mapping[str, object], problems: list[tuple[str, str, str]]) -> str:
    """What SSH connects to: an address or a name of ssh_config, and never an option."""
    text = str(_first(hostvars, "ansible_host", "ansible_ssh_host") or name)
    if not re.fullmatch(r"[A-Za-z0-9_\[:][A-Za-z0-9_.:%\]-]*", text):
        problems.append(("INVENTORY_VALUE", name, f"ansible_host={text!a} is neither a name nor an address"))
    return text


def _slots(name: str, value: object, problems: list[tuple[str, str, str]]) -> int:
    """``slots`` is a number from an INI file, and often text from a YAML one."""
    text = "" if value is None else str(value).strip()
    problem = hostfile.slots_problem(text)
    if problem:
        problems.append(("HOSTFILE_SLOTS", name, problem))
        return 1
    return int(text)


def _port(name: str, value: object, problems: list[tuple[str, str, str]]) -> int | None:
    if value is None:
        return None
    text = str(value).strip()
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    problems.append(("INVENTORY_VALUE", name, f"ansible_port={value!r} is not a port (1 to 65535)"))
    return None


def _user(name: str, value: object, problems: list[tuple[str, str, str]]) -> str | None:
    text = None if value is None else str(value)
    # ssh would take another user, or an option.
    if text is not None and not re.fullmatch(r"[^\s-]\S*", text):
        problems.append(("INVENTORY_VALUE", name, f"ansible_user={text!a} is not the name of a user"))
    return text


def _duplicates(hosts: Sequence[Host]) -> list[tuple[str, str, str]]:
    first: dict[str, str] = {}
    problems = []
    for host in hosts:
        seen = first.setdefault(host.address.lower(), host.name)
        if seen != host.name:
            text = f"it has the address {host.address}, as {seen} has; set r1_address where they differ"
            problems.append(("HOSTFILE_DUPLICATE", host.name, text))
    return problems


def _refusal(problems: Sequence[tuple[str, str, str]]) -> ConfigError:
    code, host, _ = problems[0]
    lines = [f"inventory host {name}: {text}" for _, name, text in problems]
    if len(lines) > 1:
        lines.insert(0, f"inventory: {len(lines)} problems")
    return ConfigError(
        code,
        "\n  ".join(lines),
        host=host,
        fix="correct the host's variables in the inventory, such as: node1 ansible_host=10.0.0.1 slots=16 type=gpu",
    )


def _with_head(host: Host, *, is_head: bool) -> Host:
    return replace(host, is_head=is_head)
