"""Releases and the trees they are made of: names by hash of what goes in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1deploy.settings.model import Settings

# Raised when the way a tree is built or a container is made changes in a manner that inputs do not show.
RECIPE = 1


def digest(value: Any) -> str:
    """First 12 hex digits of the sha256 over the canonical JSON of a value."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Inputs:
    """What the lock resolved the settings to. ``image_id`` is None until a registry image was pulled once."""

    image_id: str | None
    flaggems_commit: str
    flagscale_commit: str
    ciphertexts: Mapping[str, str]


@dataclass(frozen=True)
class Tree:
    """One tree under ``state_dir/trees``: its folder's name, and the folders below it that count."""

    name: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """Everything that makes up one installed state."""

    id: str
    flaggems: Tree
    flagscale: Tree
    patch_key: str
    build_key: str


def release_of(settings: Settings, inputs: Inputs) -> Release:
    """Name the release that settings and locked inputs ask for."""
    patch = {
        "recipe": RECIPE,
        "commit": settings.patch.commit,
        "flagscale": inputs.flagscale_commit,
        "device_type": settings.patch.device_type,
        "backends": settings.patch.backends,
        "task": settings.patch.task,
        "ciphertexts": dict(inputs.ciphertexts),
        "image": inputs.image_id,
        "python": settings.python.executable,
    }
    build = {"patch": digest(patch), "build": settings.vllm.build}
    gems = {"recipe": RECIPE, "commit": inputs.flaggems_commit, "image": inputs.image_id}
    flaggems = Tree(f"flaggems-{digest(gems)}", ("FlagGems", "wheels"))
    parts = ("FlagScale/build", "wheels") if settings.patch.backends else ("wheels",)
    flagscale = Tree(f"flagscale-{digest(build)}", parts)
    whole = {
        "image": inputs.image_id,
        "trees": [flaggems.name, flagscale.name],
        # What a profile leaves at its default does not count: a new setting moves no release.
        "container": settings.container.model_dump(exclude={"name"}, exclude_defaults=True),
        "install": settings.vllm.install,
        "state_dir": settings.state_dir,
    }
    return Release(digest(whole), flaggems, flagscale, digest(patch), digest(build))
