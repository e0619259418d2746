"""Ways of serving: one class each, which answers what differs between them. Pure.

A new way is one module here with a subclass of Mode, its templates, and a play.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from r1deploy.errors import ConfigError
from r1deploy.modes.base import MODES, Mode
from r1deploy.settings.model import Settings

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def mode_of(name: str) -> Mode:
    """The way of serving of that name. Raises ConfigError."""
    if not is_known(name):
        raise ConfigError("SETTINGS_VALUE", f"service.mode: {unknown(name)}")
    return MODES[name]


def faults(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with settings by their way of serving: where, and what."""
    name = settings.service.mode
    if is_known(name):
        yield from mode_of(name).faults(settings)
    else:
        yield ("service", "mode"), unknown(name)


def unknown(name: str) -> str:
    """The sentence for a name that no class has."""
    return f"{name} is no way of serving; one of {', '.join(sorted(MODES))}"


def is_known(name: str) -> bool:
    """Whether there is a way of serving of that name."""
    return name in MODES
