"""What every verb starts from: the folder, its settings, its inventory and its lock file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r1deploy.cluster import hostfile
from r1deploy.cluster import inventory as inventories
from r1deploy.errors import UsageError
from r1deploy.runner.ansible import Target
from r1deploy.settings import lockfile
from r1deploy.settings.load import Loaded, load
from r1deploy.settings.model import Settings

OWN = ".r1deploy"


@dataclass(frozen=True)
class Context:
    """One cluster's files on the controller."""

    folder: Path
    loaded: Loaded
    inventory: Path

    @property
    def settings(self) -> Settings:
        """The merged settings."""
        return self.loaded.settings

    @property
    def target(self) -> Target:
        """What the runner needs to reach the hosts."""
        return Target(self.inventory, self.settings.ssh)

    @property
    def lock_path(self) -> Path:
        """r1deploy.lock, beside r1deploy.yaml."""
        return self.folder / lockfile.FILE_NAME


def open_context(folder: Path, inventory: Path | None, flags: Mapping[str, object]) -> Context:
    """Read settings and find the inventory; a hostfile is taken in its place.

    In: the folder of r1deploy.yaml; the inventory as given, or None for the one of
    the last time or ``inventory.ini``. Raises UsageError, ConfigError.
    """
    folder = folder.resolve()
    loaded = load(folder, flags, os.environ)
    return Context(folder, loaded, find_inventory(folder, inventory))


def find_inventory(folder: Path, given: Path | None) -> Path:
    """The inventory to use. Raises UsageError INVENTORY_MISSING."""
    own = folder / OWN
    memory = own / "inventory"
    default = folder / "inventory.ini"
    remembered = Path(memory.read_text(encoding="utf-8").strip()) if memory.exists() else default
    path = given.absolute() if given else remembered
    if not path.exists():
        message = f"{path}: no such inventory"
        fix = "r1deploy init HOSTFILE, or name it: r1deploy bootstrap INVENTORY"
        raise UsageError("INVENTORY_MISSING", message, fix=fix)
    if path != remembered:
        own.mkdir(exist_ok=True)
        memory.write_text(f"{path}\n", encoding="utf-8")
    if path.is_file() and hostfile.looks_like_hostfile(path):
        rendered = own / "from-hostfile.ini"
        own.mkdir(exist_ok=True)
        rendered.write_text(inventories.render(hostfile.read(path)), encoding="utf-8")
        return rendered
    return path
