"""The inventory as Ansible reads it; what it read is kept, and believed while nothing of it changed.

Ansible alone knows what an inventory means, and its start takes longer than a look at all hosts. So what it read is
kept with the content of all files that it read. What can mean another thing without a change of these is not kept: a
program, a plugin, a template, a vault. Nor is a password.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1deploy import __version__
from r1deploy.ansible.folder import run_folder
from r1deploy.ansible.runner import Outcome, Play, Target, Watch, read_inventory, run
from r1deploy.errors import ConfigError, UsageError
from r1deploy.ssh import PASSWORD, login_of_all

Rows = list[dict[str, Any]]
# A name in the folder of what r1deploy remembers.
KEPT = "inventory.json"
LARGEST = 8 << 20
# What Ansible reads beside a source: variables of groups and hosts.
BESIDE = ("group_vars", "host_vars")
# A template, a plugin's file, a vault.
MOVES = re.compile(rb"\{\{|\{%|\{#|\bplugin[\"']?\s*:|\$ANSIBLE_VAULT|!vault")
# What Ansible colours its words with.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def inventory_rows(target: Target) -> Rows:
    """What Ansible reads in the inventory: a row a host, with its variables that matter here.

    Raises ConfigError where Ansible cannot read it, UsageError where no host is in it.
    """
    key = key_of(target)
    kept = recalled(target, key) if key else None
    if kept is not None:
        return kept
    rows = asked(target)
    if key and key == key_of(target):
        keep(target, key, rows)
    return rows


def asked(target: Target) -> Rows:
    """Have Ansible read it; no host is contacted. Raises ConfigError, UsageError."""
    with run_folder() as folder:
        path = folder / KEPT
        outcome = run(target, Play("inventory.yml", variables={"r1_inventory_out": str(path)}, folder=folder), Watch())
        rows = read_inventory(path)
    if rows is None:
        raise unread(target, outcome)
    return rows


def unread(target: Target, outcome: Outcome) -> ConfigError | UsageError:
    """Ansible read nothing: why."""
    if outcome.tail and not outcome.ok:
        said = [COLOUR.sub("", line) for line in outcome.tail if not line.startswith("PLAY ")]
        fix = (
            f"ansible-inventory -i {shlex.quote(str(target.inventory))} --list says what is wrong; vaults are not read"
        )
        return ConfigError("INVENTORY_INVALID", f"{target.inventory}: Ansible cannot read it", evidence=said, fix=fix)
    return UsageError(
        "INVENTORY_EMPTY",
        f"{target.inventory}: no hosts in it",
        fix=f"r1deploy inventory HOSTFILE > {shlex.quote(str(target.inventory))}",
    )


def key_of(target: Target) -> str | None:
    """The sha256 of all that decides what Ansible reads; None: that cannot be told from files."""
    if target.memory is None:
        return None
    made = hashlib.sha256()
    versions = [__version__, importlib.metadata.version("ansible-core")]
    # What the settings say of SSH is a source of ours; ``~`` and the user stand in it.
    facts = [str(target.inventory), *versions, os.environ.get("HOME", ""), getpass.getuser()]
    made.update(json.dumps([*facts, login_of_all(target.ssh).ansible()], default=str).encode())
    left = LARGEST
    try:
        for path in sources_of(target.inventory):
            data = path.read_bytes()
            left -= len(data)
            if left < 0 or os.access(path, os.X_OK) or MOVES.search(data):
                return None
            made.update(json.dumps([str(path), hashlib.sha256(data).hexdigest()]).encode())
    except OSError:
        return None
    return made.hexdigest()


def sources_of(inventory: Path) -> Iterator[Path]:
    """All files that Ansible reads for an inventory. Raises OSError."""
    if inventory.is_file():
        yield inventory
        tops = [inventory.parent / name for name in BESIDE]
    else:
        tops = [inventory]
    for top in tops:
        # Sorted: the order of a folder's entries is no part of what they say.
        for place, folders, names in os.walk(top, followlinks=True):
            folders.sort()
            yield from (Path(place) / name for name in sorted(names))


def recalled(target: Target, key: str) -> Rows | None:
    """What is kept for a key; None where nothing is, or it is not as it was written, or others may write there."""
    assert target.memory
    try:
        with (target.memory / KEPT).open("rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
                return None
            document = json.loads(stream.read(LARGEST))
        rows = document["rows"]
        whole = document["key"] == key and document["sum"] == sum_of(key, rows)
        return list(rows) if whole and rows else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def keep(target: Target, key: str, rows: Rows) -> None:
    """Keep what was read, for this user only; where that cannot be done, Ansible is asked again next time."""
    if any(row.get(name) not in (None, "") for row in rows for name in PASSWORD):
        return
    assert target.memory
    text = json.dumps({"key": key, "sum": sum_of(key, rows), "rows": rows})
    with contextlib.suppress(OSError):
        target.memory.mkdir(exist_ok=True)
        partial = target.memory / f"{KEPT}.{os.getpid()}"
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
        partial.replace(target.memory / KEPT)


def sum_of(key: str, rows: Rows) -> str:
    """The sha256 of what is kept: a file that is not whole is not believed."""
    return hashlib.sha256(json.dumps([key, rows], sort_keys=True).encode()).hexdigest()
