"""The hostfile, with the traps of FlagScale's own reader."""

import logging
import os
import re

logger = logging.getLogger("FlagScale")
ENTRY = re.compile(r"^(\S+)\s+slots=(\d+)(?:\s+type=(\S+))?")  # the real one's; what follows a match is ignored


def find(setting):
    """The hostfile's path, or None where none is set (then the service is local, silently)."""
    if not setting:
        return None
    path = setting if os.path.isabs(setting) else os.path.join(os.getcwd(), setting)
    if not os.path.exists(path):
        raise ValueError(f"The hostfile {path} does not exist")
    return path


def read(path):
    """[(host, {slots, type})] in the order of the file."""
    if path is None or not os.path.isfile(path):
        logger.warning("Hostfile %s not found. The training will proceed using only local resources.", path)
        return []
    hosts = {}
    with open(path) as stream:
        for line in (raw.strip() for raw in stream):
            if line and not line.startswith("#"):
                add(hosts, line)
    if not hosts:
        raise ValueError("Hostfile is empty or not formatted correctly. Please check the hostfile.")
    typed = [entry["type"] is not None for entry in hosts.values()]
    assert all(typed) or not any(typed), "All hosts must have the a machine type or no machine type specified."
    for entry in hosts.values():
        entry["type"] = entry["type"] or "gpu"
    return list(hosts.items())


def add(hosts, line):
    match = ENTRY.search(line)
    if match is None:
        raise ValueError(f"Invalid entry in hostfile: {line}.")
    name, slots, kind = match.groups()
    if name in hosts:
        raise ValueError(f"Hostfile contains multiple entries for host: {name}.")
    hosts[name] = {"slots": int(slots), "type": kind}
