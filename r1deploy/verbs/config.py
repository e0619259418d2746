"""The merged settings, and where each value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from r1deploy.observe.context import settings_in
from r1deploy.settings.sources import rows


def config(folder: Path, flags: Mapping[str, object]) -> list[tuple[str, object, str, str]]:
    """Every setting with its value and its origin. Raises ConfigError."""
    return rows(settings_in(folder, flags))
