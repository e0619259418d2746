"""The annotated ``r1deploy.yaml`` that ``init`` writes; it changes nothing until it is edited.

``# text`` explains, ``#key: value`` is a setting commented out: what is null, and what the profile knows
better than the user (chip, disk, memory),
so
that a better profile reaches old files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from r1deploy.settings import schema
from r1deploy.settings.load import from_profile, leaves
from r1deploy.settings.model import Settings

COMMENTED = frozenset({"chip", "disk", "memory"})
HEADER = """\
# Settings of one cluster. Every value here is the one r1deploy takes without this file.
# Delete what you do not change; a line such as `#key: value` is a setting, commented out.
# Stronger than this file: R1DEPLOY_SECTION__KEY=value in the environment, and flags.
# Relative paths start at this file's folder. In mappings (env, extra, …) null removes a key.
# `r1deploy config --sources` shows each value and where it comes from.
"""
_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*(?:[:][A-Za-z0-9_./@-]+)*")
# Plain, these would not be text, here or for another reader of the file.
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def annotated(profile: str) -> str:
    """Return the text of ``r1deploy.yaml`` for the vendor profile of that name.

    It loads to exactly the settings of the profile alone. Raises ConfigError (PROFILE_UNKNOWN).
    """
    settings = from_profile(profile)
    values = _values(settings)
    lines = HEADER.splitlines()
    for path, node in schema.nodes().items():
        if len(path) == 1:
            lines.append("")
        if path[0] in COMMENTED:
            lines += [f"#{line}" if len(path) > 1 else line for line in _described(path, node)]
            lines += [f"#{line}" for line in _written(path, node, values)]
        else:
            off = node.kind == "leaf" and values[path] is None
            margin = "  " * (len(path) - 1)
            written = _written(path, node, values)
            lines += _described(path, node)
            lines += [f"{margin}#{line.removeprefix(margin)}" for line in written] if off else written
    return "\n".join(lines) + "\n"


def _described(path: schema.Path, node: schema.Node) -> list[str]:
    return [f"{'  ' * (len(path) - 1)}# {node.field.description}"]


def _written(path: schema.Path, node: schema.Node, values: dict[schema.Path, object]) -> list[str]:
    """Return the YAML lines of one key; a section is its first line only."""
    margin = "  " * (len(path) - 1)
    lines = [f"{path[-1]}:"] if node.kind == "section" else list(_lines(path[-1], values[path]))
    return [f"{margin}{line}" for line in lines]


def _lines(key: str, value: object) -> Iterator[str]:
    flow = f"{key}: {_flow(value)}"
    if isinstance(value, dict) and value:
        yield f"{key}:"
        for name, item in value.items():
            yield f"  {_scalar(name)}: {_flow(item)}"
    elif isinstance(value, list) and len(flow) > _WIDTH:
        yield f"{key}:"
        for item in value:
            yield f"  - {_flow(item)}"
    else:
        yield flow


def _flow(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    return "{}" if isinstance(value, dict) else _scalar(value)


def _scalar(value: object) -> str:
    """Return ``value`` so that every YAML reader takes it for the same."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _values(settings: Settings) -> dict[schema.Path, object]:
    """Return the value of each leaf and each whole mapping."""
    values: dict[schema.Path, object] = {}
    for path, value in leaves(settings):
        if path in schema.nodes():
            values[path] = value
            continue
        mapping = values.setdefault(path[:-1], {})
        assert isinstance(mapping, dict)  # `leaves` gives a mapping either by its keys or whole
        mapping[path[-1]] = value
    return values
