"""Vendor profiles: one YAML file each, of this package or of the user."""

from __future__ import annotations

import difflib
from pathlib import Path

from r1deploy.errors import ConfigError
from r1deploy.settings import yamlfile

_FOLDER = Path(__file__).parent / "profiles"


def names() -> list[str]:
    """Return the names of the profiles that come with r1deploy."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def default() -> str:
    """Return the name of the profile that is taken where none is given."""
    return (_FOLDER / "default").read_text(encoding="utf-8").strip()


def read(profile: str, folder: Path) -> yamlfile.Document:
    """Return the profile of that name, or the file ``profile`` (ends in .yaml; relative to ``folder``).

    Raises ConfigError: PROFILE_UNKNOWN, SETTINGS_YAML.
    """
    if profile in names():
        return yamlfile.read(_FOLDER / f"{profile}.yaml", f"profile {profile}.yaml")
    path = folder / _expanded(profile)
    try:
        is_file = profile.endswith(".yaml") and path.is_file()
    except (OSError, ValueError):
        is_file = False
    if is_file:
        return yamlfile.read(path, profile)
    near = difflib.get_close_matches(profile, names(), n=1)
    raise ConfigError(
        "PROFILE_UNKNOWN",
        f"profile: there is no file {path}" if profile.endswith(".yaml") else f"profile: {profile!r} is unknown",
        fix=(f"did you mean {near[0]}? " if near else "")
        + f"known profiles: {', '.join(names())}; your own: a path that ends in .yaml, relative to r1deploy.yaml",
    )


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
