"""The values of all sources by path, the stronger source over the weaker, each value with its source."""

from __future__ import annotations

from dataclasses import dataclass, field

from r1deploy.settings import schema
from r1deploy.settings.model import Precedence
from r1deploy.settings.problems import Problem, shown, without_index


@dataclass(frozen=True)
class Source:
    """Where a value comes from: the kind, and the file and line, the variable or the flag."""

    kind: Precedence
    where: str


DEFAULT = Source("default", "built in")


@dataclass(frozen=True)
class Value:
    """A value as YAML gives it, and its source."""

    value: object
    source: Source


@dataclass
class Merge:
    """The values by path so far (``below``: the profile's alone), and what was wrong on the way."""

    values: dict[schema.Path, Value] = field(default_factory=dict)
    below: dict[schema.Path, Value] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def put(self, path: schema.Path, value: object, source: Source) -> None:
        """Set the leaf or mapping key ``path``; null removes a mapping's key."""
        known = schema.find(path)
        if value is None and known is not None and known[0].kind == "mapping":
            self.values.pop(path, None)
        else:
            self.values[path] = Value(value, source)

    def refuse(self, path: schema.Path, where: str, text: str) -> None:
        """Note that the value at ``path`` cannot be used."""
        self.problems.append(Problem("SETTINGS_VALUE", path, where, text))

    def bad(self, path: schema.Path, where: str, expected: str, value: object) -> None:
        """Note a value of the wrong type."""
        self.refuse(path, where, f"{expected} is expected, not {shown(path, value)}")

    def unknown(self, path: schema.Path, where: str) -> None:
        """Note a key that is no setting."""
        near = schema.nearest(path)
        text = f"unknown key; did you mean {near}?" if near else "unknown key"
        self.problems.append(Problem("SETTINGS_UNKNOWN_KEY", path, where, text))

    def where(self, path: schema.Path) -> str:
        """Return the file and line, variable or flag of the value at ``path``; empty: there is none."""
        item = self.values.get(path) or self.values.get(without_index(path))
        return item.source.where if item else ""
