"""The settings' model as data: every key, what it takes, which one is nearest."""

from __future__ import annotations

import difflib
import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from r1deploy.settings.model import Section, Settings

Path = tuple[str, ...]
# A section has fixed keys, a mapping free ones, a leaf none.
Kind = Literal["section", "mapping", "leaf"]

_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "lines of `key: value`",
}


@dataclass(frozen=True)
class Node:
    """One key of the settings; ``takes`` are the types of its value, of a mapping those of one value."""

    path: Path
    kind: Kind
    field: FieldInfo
    takes: frozenset[type]

    @property
    def expected(self) -> str:
        """Return what the value must be, in words."""
        if self.kind == "section":
            return _WORDS[dict]
        # "a number" says "a whole number" too.
        takes = self.takes - {int} if float in self.takes else self.takes
        words = [word for kind, word in _WORDS.items() if kind in takes]
        if type(None) in takes:
            words.append("null")
        return " or ".join(words)


@functools.cache
def nodes() -> dict[Path, Node]:
    """Return every key of the settings by its path, in the order of the model."""
    return {node.path: node for node in _nodes(Settings, ())}


def find(path: Path) -> tuple[Node, Path] | None:
    """Return the node that ``path`` names or lies in, and the rest: a mapping's key. None: no such setting."""
    for end in (1, 2, 3):
        node = nodes().get(path[:end])
        if node is None:
            return None
        rest = path[end:]
        if node.kind == "mapping" or not rest:
            return node, rest
        if node.kind == "leaf":
            return None
    return None


def children(path: Path) -> list[str]:
    """Return the keys of the section ``path`` (empty: the top)."""
    return [known[-1] for known in nodes() if known[:-1] == path]


def nearest(path: Path) -> str | None:
    """Return the dotted path of the setting the user may have meant by the unknown ``path``, or None."""
    word = path[-1].lower().replace("-", "_")
    for match in difflib.get_close_matches(word, children(path[:-1]), n=1):
        return ".".join((*path[:-1], match))
    elsewhere = [known for known in nodes() if known[-1] == word]
    # "name" is in too many sections to be a hint.
    if 1 <= len(elsewhere) <= 2:
        return " or ".join(".".join(known) for known in elsewhere)
    for match in difflib.get_close_matches(".".join(path).lower(), [".".join(known) for known in nodes()], n=1):
        return match
    return None


def dotted(path: Path) -> str:
    """Return ``path`` for a message: no control character of a damaged file may reach the terminal."""
    return ascii(".".join(path))[1:-1]


def _nodes(model: type[Section], above: Path) -> Iterator[Node]:
    for name, field in model.model_fields.items():
        path = (*above, name)
        section = _section(field.annotation)
        takes = frozenset(_types(field.annotation))
        if section is not None:
            yield Node(path, "section", field, takes)
            yield from _nodes(section, path)
        elif get_origin(field.annotation) is dict:
            yield Node(path, "mapping", field, frozenset(_types(get_args(field.annotation)[1])))
        else:
            yield Node(path, "leaf", field, takes)


def _section(annotation: Any) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _types(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _types(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for item in get_args(annotation):
            yield from _types(item)
    elif isinstance(origin, type):
        yield origin
    elif isinstance(annotation, type):
        yield annotation
