"""What is wrong with settings, in words: where, which key, what is expected instead."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pydantic
from pydantic_core import ErrorDetails

from r1deploy.errors import ConfigError
from r1deploy.settings import redact, schema

_LIMITS = {
    "greater_than_equal": "{} of at least {}",
    "greater_than": "{} above {}",
    "less_than_equal": "{} of at most {}",
    "less_than": "{} below {}",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the error code, the key, the file and line (or variable, or flag), the sentence."""

    code: str
    path: schema.Path
    where: str
    text: str

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{schema.dotted(self.path)}: {self.text}"


def refusal(problems: Sequence[Problem]) -> ConfigError:
    """Return the error that says all problems at once, with the code of the first."""
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    head = [f"the settings have {len(lines)} problems"] if len(lines) > 1 else []
    what = "key" if problems[0].code == "SETTINGS_UNKNOWN_KEY" else "value"
    fix = f"correct the {what}" if len(lines) == 1 else "correct them"
    meaning = "`r1deploy init` in a new folder writes every setting with its meaning"
    return ConfigError(problems[0].code, "\n  ".join(head + lines), fix=f"{fix}; {meaning}")


def from_pydantic(error: pydantic.ValidationError, where: Callable[[schema.Path], str]) -> list[Problem]:
    """Return a problem for each key that the model refuses; ``where`` tells a key's source."""
    problems: dict[schema.Path, Problem] = {}
    for detail in error.errors(include_url=False, include_context=True):
        path, node = _locate(detail["loc"])
        # A union fails once for each of its types.
        problems.setdefault(path, Problem("SETTINGS_VALUE", path, where(path), _explained(path, node, detail)))
    return list(problems.values())


def without_index(path: schema.Path) -> schema.Path:
    """``volumes[2]`` → volumes: the key whose list the item is in."""
    return (*path[:-1], path[-1].partition("[")[0])


def shown(path: schema.Path, value: object) -> str:
    """Return ``value`` for a message: short, in YAML's words, no secret, no control characters."""
    value = redact.shown(path, value if isinstance(value, str | bool | int | float | None) else _Short(value))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if value == redact.HIDDEN else ascii(value if len(value) <= 100 else value[:97] + "...")
    return str(value)[:120]


def _locate(loc: Sequence[int | str]) -> tuple[schema.Path, schema.Node | None]:
    """Return the path that pydantic's ``loc`` means (without the names of union members), and its node."""
    path: schema.Path = ()
    for part in loc:
        node = schema.nodes().get(path)
        if node is None or node.kind == "section":
            path = (*path, str(part))
        elif node.kind == "mapping":
            return (*path, str(part)), node
        elif isinstance(part, int):
            return (*path[:-1], f"{path[-1]}[{part}]"), node
    return path, schema.nodes().get(path)


def _explained(path: schema.Path, node: schema.Node | None, detail: ErrorDetails) -> str:
    """Return what pydantic's ``detail`` says of the value at ``path``, in our words."""
    kind, value = detail["type"], detail.get("input")
    if kind == "missing":
        return "must be given, by the profile or in r1deploy.yaml"
    in_list = path[-1].endswith("]")
    plain = "text" if in_list else (node.expected if node else "")
    expected = _expected(plain, kind, detail.get("ctx", {}))
    if not expected:
        return f"{detail['msg']}, not {shown(path, value)}"
    return f"{expected} is expected, not {shown(path, value)}{_hint(expected, value)}"


def _expected(plain: str, kind: str, context: dict[str, object]) -> str:
    """Return what is expected instead of a value that fails with ``kind``; empty: only pydantic knows."""
    if kind in _LIMITS:
        return _LIMITS[kind].format(plain.removesuffix(" or null"), next(iter(context.values())))
    if kind == "string_pattern_mismatch":
        return f"text of the form {context.get('pattern')}"
    if kind in ("string_too_short", "too_short"):
        return f"{plain} that is not empty"
    return plain if kind.endswith("_type") or kind in ("int_from_float", "string_unicode") else ""


def _hint(expected: str, value: object) -> str:
    if isinstance(value, bool | int | float) and expected.startswith("text"):
        written = str(value).lower() if isinstance(value, bool) else str(value)
        return f'; put it in quotes: "{written}"' if len(written) < 80 else "; put it in quotes"
    return _hint_for_text(expected, value) if isinstance(value, str) else ""


def _hint_for_text(expected: str, value: str) -> str:
    if expected.startswith("true or false"):
        if value.lower() in ("true", "yes", "on", "1", "y"):
            return "; write true"
        return "; write false" if value.lower() in ("false", "no", "off", "0", "n") else ""
    if "number" in expected and re.fullmatch(r"[-+]?[0-9.]{1,20}", value):
        return "; write it without quotes" + (" and leading zeros" if re.match(r"[-+]?0[0-9]", value) else "")
    return "; write it as [item]" if expected.startswith("a list") else ""


class _Short:
    """A list or mapping of a message: its size is bounded even where aliases make it huge."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return redact.text(reprlib.repr(self.value))
