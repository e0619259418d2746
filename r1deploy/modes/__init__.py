"""Ways of serving: one class each, which answers what differs between them. Pure.

A new way is one module here with a subclass of Mode, its templates, and a play.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from r1deploy.modes.base import MODES, Mode
from r1deploy.settings.model import Settings

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def mode_of(name: str) -> Mode:
    """The way of serving of that name, which the settings or a record of theirs gave. Raises KeyError."""
    return MODES[name]


def faults(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with settings by their way of serving: where, and what."""
    name = settings.service.mode
    if is_known(name):
        yield from mode_of(name).faults(settings)
    else:
        yield ("service", "mode"), f"{name} is no way of serving; one of {', '.join(sorted(MODES))}"


def is_known(name: str) -> bool:
    """Whether there is a way of serving of that name."""
    return name in MODES
