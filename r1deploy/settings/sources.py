"""Each setting, its value and where that comes from (``config --sources``)."""

from __future__ import annotations

from r1deploy.settings import redact
from r1deploy.settings.load import Loaded, leaves


def rows(loaded: Loaded) -> list[tuple[str, object, str, str]]:
    """Return (dotted path, value, kind of source, file and line or variable), in the model's order.

    Secrets are hidden; a value is a scalar, a list, or an empty mapping.
    """
    table = []
    for path, value in leaves(loaded.settings):
        source = loaded.sources[".".join(path)]
        # git.instead_of's keys are URLs and may hold a login.
        table.append((redact.text(".".join(path)), redact.shown(path, value), str(source.kind), source.where))
    return table
