"""What every verb starts from: the folder, its settings, its inventory and its lock file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from r1deploy.bundle import Unpacked, opened
from r1deploy.cluster import hostfile
from r1deploy.cluster import inventory as inventories
from r1deploy.errors import UsageError
from r1deploy.remote import Remote
from r1deploy.runner.ansible import Target
from r1deploy.runner.probe import Probed
from r1deploy.settings import lockfile
from r1deploy.settings.load import Loaded, load
from r1deploy.settings.model import Settings

OWN = ".r1deploy"
BUNDLE = "bundle"


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

    def remote(self, probed: Probed, name: str) -> Remote:
        """A connection to a host of the inventory, with the login that Ansible has for it."""
        host = next(host for host in probed.hosts if host.name == name)
        return Remote(host, probed.login.get(name, {}), self.settings.ssh)

    def head(self, probed: Probed) -> Remote:
        """A connection to the head."""
        return self.remote(probed, probed.hosts[0].name)

    @property
    def lock_path(self) -> Path:
        """r1deploy.lock, beside r1deploy.yaml."""
        return self.folder / lockfile.FILE_NAME


def with_bundle(context: Context, unpacked: Unpacked) -> Context:
    """The same cluster with image and repositories from a bundle, whatever the settings say."""
    settings = context.settings
    urls = {"FlagGems": settings.flaggems.url, "FlagScale": settings.flagscale.url}
    mirrors = {urls.get(row.name, row.url): str(unpacked.mirror(row)) for row in unpacked.manifest.repositories}
    changed = settings.model_copy(
        update={
            "image": settings.image.model_copy(update={"tarball": str(unpacked.path("image/image.tar"))}),
            "git": settings.git.model_copy(update={"mirrors": {**settings.git.mirrors, **mirrors}}),
        }
    )
    return replace(context, loaded=replace(context.loaded, settings=changed))


def remember_bundle(folder: Path, unpacked: Unpacked) -> None:
    """The next verbs in this folder take the bundle too."""
    own = folder / OWN
    own.mkdir(exist_ok=True)
    (own / BUNDLE).write_text(f"{unpacked.folder}\n", encoding="utf-8")


def open_context(folder: Path, inventory: Path | None, flags: Mapping[str, object]) -> Context:
    """Read settings and find the inventory; a hostfile is taken in its place.

    In: the folder of r1deploy.yaml; the inventory as given, or None for the one of
    the last time or ``inventory.ini``. A bundle that was used once is used again.
    Raises UsageError, ConfigError.
    """
    folder = folder.resolve()
    loaded = load(folder, flags, os.environ)
    context = Context(folder, loaded, find_inventory(folder, inventory))
    memory = folder / OWN / BUNDLE
    if not memory.is_file():
        return context
    return with_bundle(context, opened(Path(memory.read_text(encoding="utf-8").strip())))


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
