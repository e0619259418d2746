"""Names, addresses and folders of the lab, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# A second lab on the same machine has another name, network and folder.
PREFIX = os.environ.get("R1DEPLOY_LAB_NAME", "r1lab")
NETWORK = LABEL = PREFIX
SHARE_VOLUME = f"{PREFIX}-share"
UPSTREAM = f"{PREFIX}-upstream"
RECIPE_LABEL = "r1lab.recipe"
VENDOR_IMAGE = "baai:v5"
VENDOR_VLLM_IMAGE = "baai:v5-vllm"
VENDOR_UPSTREAM_IMAGE = "baai:v5-upstream"
MOUNT_POINT = "/mnt/share"
MODELS_ON_HOST = f"{MOUNT_POINT}/models"
SHARE_IN_CONTAINER = "/data1"
MODELS_IN_CONTAINER = f"{SHARE_IN_CONTAINER}/models"
MAX_HOSTS = 16
CHIPS = 16
REPOSITORIES = ("FlagGems", "FlagScale", "vllm")


def network_prefix() -> str:
    """First three numbers of the lab's /24; another one where this is taken."""
    return os.environ.get("R1DEPLOY_LAB_NETWORK", "172.31.250")


def subnet() -> str:
    return f"{network_prefix()}.0/24"


def gateway() -> str:
    return f"{network_prefix()}.1"


def upstream_address() -> str:
    return f"{network_prefix()}.2"


def node_name(number: int) -> str:
    return f"node{number}"


def node_address(number: int) -> str:
    return f"{network_prefix()}.{10 + number}"


def container_name(host: str) -> str:
    return f"{PREFIX}-{host}"


def engine_volume(host: str) -> str:
    """Volume of the host's own engine: overlay2 does not nest on overlay."""
    return f"{PREFIX}-{host}-docker"


def machine_folder() -> Path:
    """What all labs of this machine share: the Docker Engine that one of them started, and whose turn it is."""
    return Path.home() / ".local" / "state" / "r1deploy"


def engine_log() -> Path:
    return machine_folder() / "dockerd.log"


def engine_record() -> Path:
    return machine_folder() / "engine.json"


def default_folder() -> Path:
    chosen = os.environ.get("R1DEPLOY_LAB_DIR")
    own = "lab" if PREFIX == "r1lab" else PREFIX
    return Path(chosen) if chosen else machine_folder() / own


def cache_folder() -> Path:
    return Path.home() / ".cache" / "r1deploy" / "lab"


def standins() -> Path:
    """The stand-in sources, shipped as package data."""
    return Path(__file__).resolve().parent / "standins"


@dataclass(frozen=True)
class Layout:
    """Files of one lab folder."""

    folder: Path

    @property
    def ssh_key(self) -> Path:
        return self.folder / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "ssh" / "known_hosts"

    @property
    def vendor_key(self) -> Path:
        return self.folder / "key" / "private_key.pem"

    @property
    def tarball(self) -> Path:
        return self.tarball_of(VENDOR_IMAGE)

    def tarball_of(self, image: str) -> Path:
        return self.folder / f"{image.replace(':', '-')}.tar"

    @property
    def link(self) -> Path:
        """The limits of the links; no file: there are none."""
        return self.folder / "link"

    @property
    def upstreams(self) -> Path:
        return self.folder / "upstreams"

    @property
    def hostfile(self) -> Path:
        return self.folder / "hostfile.txt"

    @property
    def settings(self) -> Path:
        return self.folder / "r1deploy.yaml"
