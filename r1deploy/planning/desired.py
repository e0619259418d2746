"""What the settings ask for, per host, in the terms of the probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1deploy.cluster.host import Host
from r1deploy.planning.layout import TRUST_MOUNT, Layout
from r1deploy.planning.observed import Image
from r1deploy.planning.release import Release
from r1deploy.settings.model import Container as ContainerSettings
from r1deploy.settings.model import Settings

SIZE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
INSTALL_PARTS = ("flaggems", "vllm", "flagscale")


@dataclass(frozen=True)
class File:
    """A file as it has to be: sha256 of its bytes, and its mode as four octal digits."""

    sha256: str
    mode: str


@dataclass(frozen=True)
class Desired:
    """The wanted state of a whole cluster.

    ``configs`` maps each host to the files of its configuration folder,
    ``helpers`` the names of the scripts in ``state_dir/bin`` to their sha256.
    ``config_id`` None: it is not known while a host does not answer.
    ``image_digests`` are all that an engine may call the image of ``image_id``.
    ``image_arch`` and ``image_packed`` are known of a tarball only.
    """

    settings: Settings
    hosts: tuple[Host, ...]
    image_id: str | None
    flaggems_commit: str
    flagscale_commit: str
    release: Release
    config_id: str | None
    configs: Mapping[str, Mapping[str, File]]
    helpers: Mapping[str, str]
    image_arch: str | None = None
    image_packed: str | None = None
    image_digests: tuple[str, ...] = ()

    @property
    def head(self) -> Host:
        """The first host of the inventory."""
        return self.hosts[0]

    @property
    def workers(self) -> tuple[Host, ...]:
        """All hosts but the head."""
        return self.hosts[1:]

    @property
    def builder(self) -> Host:
        """The host that builds."""
        wanted = self.settings.builder
        return next((host for host in self.hosts if host.name == wanted), self.hosts[0])

    def has_image(self, image: Image | None) -> bool:
        """Whether an image of a host is the wanted one: by the id that its engine gives it, or by a digest of it."""
        return image is not None and not {image.id, *image.digests}.isdisjoint(self.image_digests)

    @property
    def candidate_name(self) -> str:
        """Name of the release's container until it is activated."""
        return f"{self.settings.container.name}-{self.release.id}"

    @property
    def name(self) -> str:
        """``release/config``."""
        return f"{self.release.id}/{self.config_id or 'unknown'}"

    @property
    def layout(self) -> Layout:
        """Our paths on every host."""
        return Layout(self.settings.state_dir)

    @property
    def release_dir(self) -> str:
        """Folder of the release on every host."""
        return self.layout.release(self.release.id)

    @property
    def config_dir(self) -> str:
        """Folder of the configuration on every host."""
        return self.layout.config(self.release.id, self.config_id)

    def tree_dir(self, name: str) -> str:
        """Folder of a tree on every host."""
        return self.layout.tree(name)

    @property
    def flagscale_clone(self) -> str:
        """The clone must be called FlagScale: its setup.py builds paths from that name."""
        return f"{self.tree_dir(self.release.flagscale.name)}/FlagScale"

    @property
    def patched_tree(self) -> str:
        """Where unpatch.py puts the patched tree; the clone itself where there is no patch."""
        patch = self.settings.patch
        return f"{self.flagscale_clone}/build/{patch.device_type}/FlagScale" if patch.backends else self.flagscale_clone

    @property
    def vllm_dir(self) -> str:
        """Where vLLM is built and installed: its sources come with the patch, without one there is only the tree."""
        if self.settings.patch.backends:
            return f"{self.patched_tree}/third_party/vllm"
        return self.tree_dir(self.release.flagscale.name)

    @property
    def folders(self) -> Mapping[str, str]:
        """Folders of the host step: path → mode and owner as the probe prints them."""
        at = self.layout
        return {
            at.top: "0755 0",
            at.bin: "0755 0",
            at.trees: "0755 0",
            at.releases: "0755 0",
            self.tree_dir(self.release.flaggems.name): "0700 0",
            self.tree_dir(self.release.flagscale.name): "0700 0",
            self.release_dir: "0700 0",
            at.trust: "0700 0",
        }

    @property
    def volumes(self) -> list[str]:
        """The settings' volumes and our own."""
        at = self.layout
        own = [self.tree_dir(self.release.flaggems.name), self.tree_dir(self.release.flagscale.name), self.release_dir]
        return [
            *self.settings.container.volumes,
            *(f"{path}:{path}" for path in own),
            f"{at.bin}:{at.bin}:ro",
            f"{at.trust}:{TRUST_MOUNT}",
        ]

    @property
    def container_spec(self) -> dict[str, Any]:
        """The container's attributes as the probe reports them."""
        wanted = self.settings.container
        return {
            "shm_size": size_of(wanted),
            "interactive": wanted.interactive,
            "tty": wanted.tty,
            "volumes": sorted(volume if volume.count(":") == 2 else f"{volume}:rw" for volume in self.volumes),
            "privileged": wanted.privileged,
            "cap_add": sorted(wanted.cap_add),
            "pid": wanted.pid,
            "network": wanted.network,
            "devices": sorted(map(device_of, wanted.devices)),
        }

    @property
    def trust_mark(self) -> str:
        """Comment of the key, by which our lines are found again."""
        return f"r1deploy:{self.settings.cluster}"

    def authorized_line(self, public_key: str, interpreter: str | None) -> str:
        """The line of a worker's authorized_keys: from the head only, one command only.

        In: the head's public key, type and base64 first; where the worker's Python is.
        """
        key = " ".join(public_key.split()[:2])
        command = f"{self.layout.script('r1trust.py')} {self.settings.container.name}"
        if interpreter not in FOUND_BY_ENV:
            command = f"{interpreter} {command}"
        return f'restrict,from="{self.head.address}",command="{command}" {key} {self.trust_mark}'


# Where the script's own first line finds Python.
FOUND_BY_ENV = (None, "/usr/bin/python3", "/bin/python3", "/usr/local/bin/python3")


def size_of(container: ContainerSettings) -> int:
    """``--shm-size`` in bytes."""
    text = container.shm_size.lower()
    unit = text[-1] if text[-1] in SIZE else ""
    return int(text.removesuffix(unit)) * SIZE[unit]


def device_of(text: str) -> str:
    """``--device`` in full: host path, container path, permissions."""
    path, *rest = text.split(":")
    inside, permissions = (rest + [path, "rwm"][len(rest) :])[:2]
    return f"{path}:{inside}:{permissions}"


def known_hosts(workers: tuple[Host, ...], keys: Mapping[str, tuple[str, ...]]) -> str:
    """known_hosts of the head's container: the keys that the probe read on each worker itself.

    In: the workers; host name → public keys.
    """
    rows = []
    for host in workers:
        port = host.port or 22
        name = host.address if port == 22 else f"[{host.address}]:{port}"
        rows += [f"{name} {key}" for key in keys[host.name]]
    return "".join(f"{row}\n" for row in rows)
