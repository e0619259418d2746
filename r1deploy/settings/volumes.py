"""The container's volumes: ``HOST:CONTAINER[:ro|:rw]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from r1deploy.settings.model import Settings

_VOLUME = re.compile(r"(?P<host>/[^:\s]*):(?P<container>/[^:\s]+)(?::(?:ro|rw))?")


@dataclass(frozen=True)
class Volume:
    """A folder of the host and where the container sees it; both without a slash at the end."""

    host: str
    container: str


def parse(text: str) -> Volume | None:
    """Return the volume that ``text`` (a ``-v`` value) means, or None if it is none."""
    match = _VOLUME.fullmatch(text)
    if match is None or {".", ".."} & {*text.split(":")[0].split("/"), *text.split(":")[1].split("/")}:
        return None
    container = match["container"].rstrip("/")
    if not container:
        return None
    return Volume(match["host"].rstrip("/") or "/", container)


def mounted(settings: Settings) -> list[Volume]:
    """Return the container's volumes; what is no volume is left out."""
    return [volume for text in settings.container.volumes if (volume := parse(text))]


def volume_pairs(settings: Settings) -> list[tuple[str, str]]:
    """Return each volume's folder on the host and in the container."""
    return [(volume.host, volume.container) for volume in mounted(settings)]


def host_path(settings: Settings, inside: str) -> str | None:
    """Return where the host has the container's path ``inside``; None: under no volume."""
    path = PurePosixPath(inside)
    over = [volume for volume in mounted(settings) if path.is_relative_to(volume.container)]
    if not over or ".." in path.parts:
        return None
    # A volume inside another one hides it.
    nearest = max(over, key=lambda volume: len(volume.container))
    return str(PurePosixPath(nearest.host) / path.relative_to(nearest.container))


def weights_host_path(settings: Settings) -> str | None:
    """Return the weights' folder as the host sees it (``/data1/x`` → ``/mnt/share/x``); None: not mounted."""
    return host_path(settings, settings.engine.model)
