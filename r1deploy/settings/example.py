"""The annotated ``r1deploy.yaml`` that ``init`` writes; it changes nothing until it is edited.

``# text`` explains, ``#key: value`` is a setting commented out. Live is only what the user has to decide, so that a
better profile reaches old files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from r1deploy.settings import schema
from r1deploy.settings.load import from_profile, leaves
from r1deploy.settings.model import Settings

DECIDED = frozenset({("profile",), ("image", "tarball"), ("patch", "key_dir"), ("engine", "model")})
"""Settings that nobody but the user knows."""
HEADER = """\
# Settings of one cluster. What is live below is for you to decide. A line such as `#key: value` is a setting,
# commented out, with the value that r1deploy takes without it: remove the `#` to change it.
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
    held = values(settings)
    lines = HEADER.splitlines()
    for path, node in schema.nodes().items():
        if len(path) == 1:
            lines.append("")
        margin = "  " * (len(path) - 1)
        written = _written(path, node, held)
        live = node.kind == "section" or (path in DECIDED and _matters(path, settings))
        lines.append(f"{margin}# {node.field.description}")
        lines += written if live else [f"{margin}#{line.removeprefix(margin)}" for line in written]
        lines += [f"{margin}# example: {path[-1]}: {flow(item)}" for item in node.field.examples or ()]
    return "\n".join(lines) + "\n"


def _matters(path: schema.Path, settings: Settings) -> bool:
    """Whether there is something to decide: without a patch, or with one that is not encrypted, nobody needs a key."""
    return path != ("patch", "key_dir") or (settings.patch.encrypted and bool(settings.patch.backends))


def _written(path: schema.Path, node: schema.Node, values: dict[schema.Path, object]) -> list[str]:
    """Return the YAML lines of one key; a section is its first line only."""
    margin = "  " * (len(path) - 1)
    lines = [f"{path[-1]}:"] if node.kind == "section" else list(_lines(path[-1], values[path]))
    return [f"{margin}{line}" for line in lines]


def _lines(key: str, value: object) -> Iterator[str]:
    line = f"{key}: {flow(value)}"
    if isinstance(value, dict) and value:
        yield f"{key}:"
        for name, item in value.items():
            yield f"  {_scalar(name)}: {flow(item)}"
    elif isinstance(value, list) and len(line) > _WIDTH:
        yield f"{key}:"
        for item in value:
            yield f"  - {flow(item)}"
    else:
        yield line


def flow(value: object) -> str:
    """Return a setting's value as YAML in one line."""
    if isinstance(value, list):
        return f"[{', '.join(flow(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_scalar(key)}: {flow(item)}' for key, item in value.items())}}}"
    return _scalar(value)


def _scalar(value: object) -> str:
    """Return ``value`` so that every YAML reader takes it for the same."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def values(settings: Settings) -> dict[schema.Path, object]:
    """Return the value of each leaf and each whole mapping."""
    held: dict[schema.Path, object] = {}
    for path, value in leaves(settings):
        if path in schema.nodes():
            held[path] = value
            continue
        mapping = held.setdefault(path[:-1], {})
        assert isinstance(mapping, dict)  # `leaves` gives a mapping either by its keys or whole
        mapping[path[-1]] = value
    return held
