"""YAML as a settings file needs it: no surprises, and a line for every key.

Plain scalars mean what YAML 1.2 says: ``yes``, ``off``, ``12:30`` and a date
are text, ``0777`` is text and no octal number. A key given twice is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from r1deploy.errors import ConfigError

# Deeper keys belong to a value as a whole.
_DEPTH = 4
# A number or date that looks right but is not ("!!timestamp x", 5000 digits) ends PyYAML with any of these.
_BROKEN = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)


class Loader(yaml.SafeLoader):
    """SafeLoader with the plain scalars of YAML 1.2."""

    # Empty, so that none of YAML 1.1's are inherited.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


@dataclass(frozen=True)
class Document:
    """A YAML file: its mapping, and the line of each key by its path."""

    name: str
    data: Mapping[object, object]
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def where(self, path: tuple[str, ...]) -> str:
        """Return ``name:line`` of the key at ``path``, or of the nearest key above it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name


def read(path: Path, name: str, *, code: str = "SETTINGS_YAML") -> Document:
    """Return the YAML mapping in the file ``path``; ``name`` is for messages.

    Raises ConfigError(``code``) where it cannot be read, is no YAML, repeats a key or is no mapping.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(code, f"cannot read {name}: {error}", fix="check the path and its permissions") from error
    return parse(data, name, code=code)


def parse(data: bytes | str, name: str, *, code: str = "SETTINGS_YAML") -> Document:
    """Return the YAML mapping in ``data``; raises as ``read`` does."""
    try:
        loader = Loader(data)
        try:
            root = loader.get_single_node()
            if root is None:
                return Document(name, {})
            repeated = _repeated(root)
            lines = _lines(root)
            value = loader.construct_document(root)
        finally:
            loader.dispose()
    except _BROKEN as error:
        raise _not_yaml(error, name, code) from error
    if repeated:
        raise ConfigError(
            code, "\n  ".join(f"{name}:{line}: {text}" for line, text in repeated), fix="keep one of the two lines"
        )
    if value is None:
        return Document(name, {})
    if not isinstance(value, dict):
        raise ConfigError(code, f"{name}:1: lines of `key: value` are expected, not a {type(value).__name__}")
    return Document(name, value, lines)


def scalar(text: str) -> object:
    """Return what ``text`` means as a YAML value (an environment variable's); broken YAML is text."""
    try:
        loader = Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _BROKEN:
        return text


def _not_yaml(error: Exception, name: str, code: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{name}:{mark.line + 1}" if mark else name
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else getattr(error, "problem", None)
    text = (str(reason) if reason else str(error)).strip().splitlines() or [type(error).__name__]
    fix = "indent with spaces, put text with `: ` or ` #` in quotes"
    return ConfigError(code, f"{where}: this is not YAML: {text[0][:200]}", fix=fix)


def _repeated(root: yaml.Node) -> list[tuple[int, str]]:
    """Return (line, text) of every key that its mapping has already."""
    repeated: list[tuple[int, str]] = []
    # Aliases make a node its own child, or many times a child: each is looked at once.
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            repeated += _repeated_keys(node)
            todo += [child for pair in node.value for child in pair]
    return sorted(repeated)


def _repeated_keys(node: yaml.MappingNode) -> list[tuple[int, str]]:
    first: dict[tuple[str, str], int] = {}
    repeated = []
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            before = first.setdefault((key.tag, key.value), key.start_mark.index)
            if before != key.start_mark.index:
                repeated.append((line, f"the key {key.value!r} is there twice"))
    return repeated


def _lines(node: yaml.Node, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    lines: dict[tuple[str, ...], int] = {}
    if not isinstance(node, yaml.MappingNode) or len(above) >= _DEPTH:
        return lines
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            path = (*above, key.value)
            lines[path] = key.start_mark.line + 1
            lines |= _lines(value, path)
    return lines
