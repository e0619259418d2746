"""What every verb starts from: the folder, its settings, its inventory and its lock file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from r1deploy.ansible.runner import Target
from r1deploy.cluster import hostfile, inventories
from r1deploy.connection import Remote
from r1deploy.errors import UsageError
from r1deploy.inputs import bundlefile
from r1deploy.inputs.bundlefile import Unpacked, opened
from r1deploy.modes import faults
from r1deploy.observe.probing import Probed
from r1deploy.settings import lockfile, redact
from r1deploy.settings.load import Loaded, load
from r1deploy.settings.model import Settings
from r1deploy.ssh import Login, login_of
from r1deploy.sshprocess import SshProcess
from r1deploy.voice import Say

OWN = ".r1deploy"
BUNDLE = "bundle"
INVENTORY = "inventory"


@dataclass(frozen=True)
class Context:
    """One cluster's files on the controller."""

    folder: Path
    loaded: Loaded
    inventory: Path
    # What was named for this run, and is not remembered yet.
    named: Path | None = None
    # The folder of the connections that are open for this run; None: each has its own.
    sockets: str | None = None

    @property
    def settings(self) -> Settings:
        """The merged settings."""
        return self.loaded.settings

    def with_sockets(self, sockets: str | None) -> Context:
        """The same cluster, its connections kept open in a folder."""
        return replace(self, sockets=sockets)

    @property
    def target(self) -> Target:
        """What the runner needs to reach the hosts."""
        return Target(self.inventory, self.settings.ssh, self.folder / OWN, self.sockets)

    def remote(self, probed: Probed, name: str) -> Remote:
        """A connection to a host of the inventory, with the login that Ansible has for it."""
        return Remote(self.login(probed, name))

    def login(self, probed: Probed, name: str) -> Login:
        """How to reach a host of the inventory."""
        host = next(host for host in probed.hosts if host.name == name)
        return login_of(host, probed.login.get(name, {}), self.settings.ssh)

    def way(self, probed: Probed, name: str) -> SshProcess:
        """The way to a host through OpenSSH, on a connection that is open where there is one."""
        return SshProcess(replace(self.login(probed, name), sockets=self.sockets))

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
            "eval": settings.eval.model_copy(update=_sets(settings, unpacked)),
            "git": settings.git.model_copy(update={"mirrors": {**settings.git.mirrors, **mirrors}}),
        }
    )
    return replace(context, loaded=replace(context.loaded, settings=changed))


def _sets(settings: Settings, unpacked: Unpacked) -> dict[str, str]:
    """The sets of eval that a bundle brings, unless the settings name others."""
    own = settings.eval.data is not None or not unpacked.holds(bundlefile.EVAL_SETS)
    return {} if own else {"data": str(unpacked.path(bundlefile.EVAL_SETS))}


def bundle_of(folder: Path) -> Unpacked | None:
    """The bundle that was used in a folder once, None where none was. Raises UsageError BUNDLE_MISSING."""
    memory = folder / OWN / BUNDLE
    return opened(Path(memory.read_text(encoding="utf-8").strip()), memory) if memory.is_file() else None


def remember_bundle(folder: Path, unpacked: Unpacked) -> None:
    """The next verbs in this folder take the bundle too."""
    own = folder / OWN
    own.mkdir(exist_ok=True)
    (own / BUNDLE).write_text(f"{unpacked.folder}\n", encoding="utf-8")


def settings_in(folder: Path, flags: Mapping[str, object]) -> Loaded:
    """The settings of a folder, checked for their way of serving too. Raises ConfigError, UsageError."""
    return load(folder, flags, os.environ, faults)


def open_context(folder: Path, inventory: Path | None, flags: Mapping[str, object]) -> Context:
    """Read settings and find the inventory; a hostfile is taken in its place.

    In: the folder of r1deploy.yaml; the inventory as given, or None for the one that
    is remembered or ``inventory.ini``. A bundle that was used once is used again.
    Raises UsageError, ConfigError.
    """
    folder = folder.resolve()
    loaded = settings_in(folder, flags)
    for secret in redact.secrets_of(loaded.settings.model_dump()):
        redact.remember(secret)
    remembered = remembered_inventory(folder)
    path = inventory.absolute() if inventory else remembered
    context = Context(folder, loaded, usable(folder, path), None if path == remembered else path)
    unpacked = bundle_of(folder)
    return with_bundle(context, unpacked) if unpacked else context


def remembered_inventory(folder: Path) -> Path:
    """The inventory that a verb succeeded with, or ``inventory.ini`` before there was one."""
    memory = folder / OWN / INVENTORY
    return Path(memory.read_text(encoding="utf-8").strip()) if memory.exists() else folder / "inventory.ini"


def usable(folder: Path, path: Path) -> Path:
    """The inventory that Ansible reads: the file itself, or what is written of a hostfile.

    Raises UsageError INVENTORY_MISSING.
    """
    if not path.exists():
        message = f"{path}: no such inventory"
        fix = "r1deploy init HOSTFILE, or name it: r1deploy preflight INVENTORY (or plan, bootstrap)"
        raise UsageError("INVENTORY_MISSING", message, fix=fix)
    if not (path.is_file() and hostfile.looks_like_hostfile(path)):
        return path
    rendered = folder / OWN / "from-hostfile.ini"
    rendered.parent.mkdir(exist_ok=True)
    rendered.write_text(inventories.render(hostfile.read(path)), encoding="utf-8")
    return rendered


def remember_inventory(context: Context, say: Say) -> None:
    """After a verb succeeded with an inventory that it was given: later verbs take it too."""
    if context.named is None:
        return
    memory = context.folder / OWN / INVENTORY
    try:
        memory.parent.mkdir(exist_ok=True)
        memory.write_text(f"{context.named}\n", encoding="utf-8")
    except OSError as error:
        say(f"{context.named} is not remembered for later verbs: {error}")
        return
    say(f"From now on {context.named} is the inventory here.")
