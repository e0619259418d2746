"""Turn a hostfile into an inventory, and back."""

from __future__ import annotations

from pathlib import Path

from r1deploy.cluster import hostfile
from r1deploy.cluster.inventories import render, to_hostfile
from r1deploy.observe.context import open_context
from r1deploy.observe.probing import read_hosts


def inventory_of(source: Path) -> str:
    """The inventory for a hostfile."""
    return render(hostfile.read(source))


def hostfile_of(source: Path, folder: Path) -> str:
    """The hostfile for an inventory, as Ansible reads it."""
    context = open_context(folder, source, {})
    return to_hostfile(read_hosts(context.target, context.settings))
