"""Settings from all their sources: flag > environment > r1deploy.yaml > profile > default.

Every source is first flattened to one value a key; later ones replace earlier
ones key by key, so that each value keeps its origin. Problems are collected
and reported together.
"""

from __future__ import annotations

import os
import re
import reprlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import pydantic

from r1deploy.errors import ConfigError, UsageError
from r1deploy.settings import profiles, redact, schema, validation, yamlfile
from r1deploy.settings.model import Precedence, Settings
from r1deploy.settings.volumes import weights_host_path

__all__ = ["Loaded", "Source", "from_profile", "leaves", "load", "value_from_text", "weights_host_path"]

FILE_NAME = "r1deploy.yaml"
PREFIX = "R1DEPLOY_"
# The lab's own variables begin with our prefix too, and are no settings.
LAB_PREFIX = f"{PREFIX}LAB_"


@dataclass(frozen=True)
class Source:
    """Where a value comes from: the kind, and the file and line, the variable or the flag."""

    kind: Precedence
    where: str


DEFAULT = Source("default", "built in")


@dataclass(frozen=True)
class Loaded:
    """The settings, the source of each value by its dotted path, and the file (None: there is none)."""

    settings: Settings
    sources: Mapping[str, Source]
    path: Path | None


@dataclass(frozen=True)
class _Problem:
    code: str
    path: schema.Path
    where: str
    text: str

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{_dotted(self.path)}: {self.text}"


@dataclass(frozen=True)
class _Value:
    value: object
    source: Source


@dataclass
class _Merge:
    """The values by path so far (``below``: the profile's alone), and what was wrong on the way."""

    values: dict[schema.Path, _Value] = field(default_factory=dict)
    below: dict[schema.Path, _Value] = field(default_factory=dict)
    problems: list[_Problem] = field(default_factory=list)

    def unknown(self, path: schema.Path, where: str) -> None:
        near = schema.nearest(path)
        self.problems.append(
            _Problem(
                "SETTINGS_UNKNOWN_KEY", path, where, f"unknown key; did you mean {near}?" if near else "unknown key"
            )
        )

    def bad(self, path: schema.Path, where: str, expected: str, value: object) -> None:
        text = f"{expected} is expected, not {_shown(path, value)}"
        self.problems.append(_Problem("SETTINGS_VALUE", path, where, text))

    def put(self, path: schema.Path, value: object, source: Source) -> None:
        """Set the leaf or mapping key ``path``; null removes a mapping's key."""
        found = schema.find(path)
        if value is None and found is not None and found[0].kind == "mapping":
            self.values.pop(path, None)
        else:
            self.values[path] = _Value(value, source)


def load(folder: Path, flags: Mapping[str, object], environ: Mapping[str, str]) -> Loaded:
    """Return the settings of the cluster whose ``r1deploy.yaml`` lies in ``folder``.

    ``flags``: dotted path → value of the right type; None is null. ``environ``: the environment;
    of it only ``R1DEPLOY_SECTION__KEY`` counts. Without r1deploy.yaml the profile stands alone.
    Relative paths in values mean ``folder``. Raises ConfigError with all problems at once (SETTINGS_*,
    PROFILE_UNKNOWN), UsageError where ``folder`` is none.
    """
    merge = _Merge()
    document = _document(folder)
    # Twice: which profile lies below is known only when all that lies above it has been read.
    top = _Merge()
    _add_own(top, document, flags, environ)
    _add_document(merge, _profile(top, folder), "profile", forbidden=("profile",))
    merge.below = dict(merge.values)
    _add_own(merge, document, flags, environ)
    settings = _validated(merge, folder)
    path = folder / FILE_NAME if document is not None else None
    return Loaded(settings, _sources(settings, merge.values), path)


def from_profile(profile: str, folder: Path = Path()) -> Settings:
    """Return the settings of the vendor profile ``profile`` alone; raises as ``load`` does."""
    merge = _Merge()
    _add_document(merge, profiles.read(profile, folder), "profile", forbidden=("profile",))
    merge.put(("profile",), profile, Source("flag", ""))
    return _validated(merge, folder)


def value_from_text(path: str, text: str) -> object:
    """Return the value that ``text`` (of ``--set`` or a variable) means for the setting ``path``.

    Text settings take it as it is, others as a YAML value; for a boolean only true and false are one. ``null``, and
    nothing at all, unset what may be null; ``null`` removes a mapping's key.
    An unknown path gives the text back: ``load`` refuses it with its name.
    """
    found = schema.find(tuple(path.split(".")))
    return text if found is None else _from_text(found, text)


def leaves(settings: Settings) -> Iterator[tuple[schema.Path, object]]:
    """Yield every value by path, in the order of the model; a mapping by its keys, or whole where it is empty."""
    for path, node in schema.nodes().items():
        if node.kind == "section":
            continue
        value: object = settings
        for name in path:
            value = getattr(value, name)
        if isinstance(value, dict) and value:
            yield from (((*path, str(key)), item) for key, item in value.items())
        else:
            yield path, value


def _document(folder: Path) -> yamlfile.Document | None:
    path = folder / FILE_NAME
    try:
        if path.exists() or path.is_symlink():
            return yamlfile.read(path, FILE_NAME)
        if not folder.is_dir():
            raise UsageError(
                "SETTINGS_MISSING", f"there is no folder {folder}", fix="give the cluster's folder with -C"
            )
        other = folder / "r1deploy.yml"
        if other.exists():
            raise UsageError(
                "SETTINGS_MISSING",
                f"{other} would not be read",
                fix=f"mv {shlex.quote(str(other))} {shlex.quote(str(path))}",
            )
    except (OSError, ValueError) as error:
        raise UsageError("SETTINGS_MISSING", f"cannot look into the folder {folder}: {error}") from error
    return None


def _profile(top: _Merge, folder: Path) -> yamlfile.Document:
    value = top.values[("profile",)].value
    # A value of another type is reported with everything else.
    return profiles.read(value if isinstance(value, str) else profiles.default(), folder)


def _add_own(
    merge: _Merge, document: yamlfile.Document | None, flags: Mapping[str, object], environ: Mapping[str, str]
) -> None:
    """Add all that is the user's, the strongest last; below it the name of the profile, which has to be one."""
    merge.put(("profile",), profiles.default(), DEFAULT)
    if document is not None:
        _add_document(merge, document, "file")
    _add_environment(merge, environ)
    _add_flags(merge, flags)


def _add_document(merge: _Merge, document: yamlfile.Document, kind: Precedence, forbidden: schema.Path = ()) -> None:
    def walk(data: Mapping[object, object], above: schema.Path) -> None:
        for key, value in data.items():
            path = (*above, str(key))
            where = document.where(path)
            node = schema.nodes().get(path)
            if node is None or not isinstance(key, str) or path == forbidden:
                merge.unknown(path, where)
            elif node.kind == "leaf":
                merge.put(path, value, Source(kind, where))
            # A section whose every line is commented out.
            elif value is None:
                continue
            elif not isinstance(value, Mapping):
                merge.bad(path, where, node.expected if node.kind == "section" else "lines of `key: value`", value)
            elif node.kind == "section":
                walk(value, path)
            else:
                _add_mapping(merge, path, value, lambda inner: Source(kind, document.where(inner)))

    walk(document.data, ())


def _add_mapping(
    merge: _Merge, path: schema.Path, value: Mapping[object, object], source: Callable[[schema.Path], Source]
) -> None:
    for key, item in value.items():
        inner = (*path, str(key))
        if isinstance(key, str) and key:
            merge.put(inner, item, source(inner))
        else:
            merge.bad(inner, source(inner).where, "a key of text (put it in quotes)", key)


def _add_environment(merge: _Merge, environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(LAB_PREFIX):
            continue
        path = _environment_path(name.removeprefix(PREFIX))
        _add_one(merge, path, environ[name], Source("environment", name), parse=True)


def _environment_path(name: str) -> schema.Path:
    """``CONTAINER__SHM_SIZE`` → container, shm_size; a mapping's key stays as it is written."""
    parts = name.split("__")
    for end in (1, 2):
        path = tuple(part.lower() for part in parts[:end])
        node = schema.nodes().get(path)
        if node is not None and node.kind == "mapping":
            return (*path, "__".join(parts[end:])) if parts[end:] else path
    return tuple(part.lower() for part in parts)


def _add_flags(merge: _Merge, flags: Mapping[str, object]) -> None:
    for name, value in flags.items():
        _add_one(merge, _flag_path(name), _plain(value), Source("flag", "command line"), parse=False)


def _flag_path(name: str) -> schema.Path:
    parts = name.split(".")
    for end in (1, 2):
        node = schema.nodes().get(tuple(parts[:end]))
        # The key of a mapping may have dots of its own: a URL.
        if node is not None and node.kind == "mapping" and parts[end:]:
            return (*parts[:end], ".".join(parts[end:]))
    return tuple(parts)


def _plain(value: object) -> object:
    """Return a flag's value as YAML would give it."""
    if isinstance(value, PurePath):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _add_one(merge: _Merge, path: schema.Path, value: object, source: Source, *, parse: bool) -> None:
    found = schema.find(path)
    if found is None:
        merge.unknown(path, source.where)
        return
    node, rest = found
    if node.kind == "section":
        near = ", ".join(".".join((*path, name)) for name in schema.children(path))
        merge.problems.append(_Problem("SETTINGS_VALUE", path, source.where, f"a section; set one of {near}"))
        return
    if parse and isinstance(value, str):
        value = _from_text(found, value)
    if node.kind == "leaf" or rest:
        merge.put(path, value, source)
    elif isinstance(value, Mapping):
        _add_mapping(merge, path, value, lambda _: source)
    else:
        merge.bad(path, source.where, "{KEY: value}", value)


def _from_text(found: tuple[schema.Node, schema.Path], text: str) -> object:
    node, rest = found
    if node.kind == "mapping" and not rest:
        return yamlfile.scalar(text)
    if str in node.takes and not node.takes & {bool, int, float, list}:
        if type(None) in node.takes:
            return None if text in ("", "null") else text
        return None if text == "null" and node.kind == "mapping" else text
    if node.takes == {bool}:
        return {"true": True, "false": False}.get(text, text)
    return yamlfile.scalar(text)


def _validated(merge: _Merge, folder: Path) -> Settings:
    """Return the model of the merged values; raises ConfigError with all problems."""
    _resolve_paths(merge, folder)
    try:
        settings = Settings.model_validate(_nested(merge.values))
    except pydantic.ValidationError as error:
        bad = _from_pydantic(error, merge.values)
        merge.problems += bad + _findings_despite(bad, merge)
        raise _refusal(merge.problems) from error
    merge.problems += _findings(settings, merge.values)
    if merge.problems:
        raise _refusal(merge.problems)
    return settings


def _nested(values: Mapping[schema.Path, _Value]) -> dict[str, object]:
    data: dict[str, object] = {}
    for path, node in schema.nodes().items():
        if node.kind != "leaf":
            _set(data, path, {})
    for path, item in values.items():
        _set(data, path, item.value)
    return data


def _findings(settings: Settings, values: Mapping[schema.Path, _Value]) -> list[_Problem]:
    return [
        _Problem("SETTINGS_VALUE", path, _where(path, values), text) for path, text in validation.findings(settings)
    ]


def _findings_despite(bad: Sequence[_Problem], merge: _Merge) -> list[_Problem]:
    """Return what else is wrong, so that the user need not mend the ``bad`` values first to see it."""
    replaced = {(*problem.path[:-1], problem.path[-1].partition("[")[0]) for problem in bad}
    values = {path: item for path, item in merge.values.items() if path not in replaced}
    values |= {path: item for path, item in merge.below.items() if path in replaced}
    try:
        settings = Settings.model_validate(_nested(values))
    except pydantic.ValidationError:
        return []
    found = _findings(settings, merge.values)
    # Whether the weights are mounted is not known while the volumes are not.
    unknown = {("engine", "model")} if ("container", "volumes") in replaced else set()
    return [problem for problem in found if problem.path not in replaced | unknown]


def _set(data: dict[str, object], path: schema.Path, value: object) -> None:
    for name in path[:-1]:
        inner = data.setdefault(name, {})
        assert isinstance(inner, dict)  # the schema's sections and mappings, made first
        data = inner
    data[path[-1]] = value


def _resolve_paths(merge: _Merge, folder: Path) -> None:
    """Make the paths of this machine absolute, so that nothing depends on where r1deploy was called."""
    for path in validation.PATHS:
        item = merge.values.get(path)
        if item is None or not isinstance(item.value, str):
            continue
        if not item.value.strip() or "\0" in item.value:
            merge.problems.append(
                _Problem("SETTINGS_VALUE", path, item.source.where, f"{item.value!r} is no path; write null for none")
            )
            continue
        resolved = os.path.abspath(folder.absolute() / os.path.expanduser(item.value))
        merge.values[path] = _Value(resolved, item.source)


def _from_pydantic(error: pydantic.ValidationError, values: Mapping[schema.Path, _Value]) -> list[_Problem]:
    found: dict[str, _Problem] = {}
    for detail in error.errors(include_url=False, include_context=True):
        path, node = _locate(detail["loc"])
        text = _text(path, node, detail["type"], detail.get("ctx", {}), detail.get("input"), detail["msg"])
        # A union fails once for each of its types.
        found.setdefault(_dotted(path), _Problem("SETTINGS_VALUE", path, _where(path, values), text))
    return list(found.values())


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


def _text(
    path: schema.Path, node: schema.Node | None, kind: str, context: Mapping[str, object], value: object, message: str
) -> str:
    """Return what is wrong with ``value``, in words."""
    if kind == "missing":
        return "must be given, by the profile or in r1deploy.yaml"
    in_list = path[-1].endswith("]")
    expected = "text" if in_list else (node.expected if node else "")
    limits = {
        "greater_than_equal": "{} of at least {}",
        "greater_than": "{} above {}",
        "less_than_equal": "{} of at most {}",
        "less_than": "{} below {}",
    }
    if kind in limits:
        expected = limits[kind].format(expected.removesuffix(" or null"), next(iter(context.values())))
    elif kind == "string_pattern_mismatch":
        expected = f"text of the form {context.get('pattern')}"
    elif kind in ("string_too_short", "too_short"):
        expected = f"{expected} that is not empty"
    elif not (kind.endswith("_type") or kind in ("int_from_float", "string_unicode")) or not expected:
        return f"{message}, not {_shown(path, value)}"
    return f"{expected} is expected, not {_shown(path, value)}{_hint(expected, value)}"


def _hint(expected: str, value: object) -> str:
    if isinstance(value, str) and expected.startswith("true or false"):
        if value.lower() in ("true", "yes", "on", "1", "y"):
            return "; write true"
        return "; write false" if value.lower() in ("false", "no", "off", "0", "n") else ""
    if isinstance(value, bool | int | float) and expected.startswith("text"):
        written = str(value).lower() if isinstance(value, bool) else str(value)
        return f'; put it in quotes: "{written}"' if len(written) < 80 else "; put it in quotes"
    if isinstance(value, str) and "number" in expected and re.fullmatch(r"[-+]?[0-9.]{1,20}", value):
        return "; write it without quotes" + (" and leading zeros" if re.match(r"[-+]?0[0-9]", value) else "")
    if isinstance(value, str) and expected.startswith("a list"):
        return "; write it as [item]"
    return ""


def _where(path: schema.Path, values: Mapping[schema.Path, _Value]) -> str:
    exact = values.get(path) or values.get((*path[:-1], path[-1].partition("[")[0]))
    return exact.source.where if exact else ""


def _shown(path: schema.Path, value: object) -> str:
    """Return ``value`` for a message: short, in YAML's words, no secret, no control characters."""
    value = redact.shown(path, value if isinstance(value, str | bool | int | float | None) else _Short(value))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if value == redact.HIDDEN else ascii(value if len(value) <= 100 else value[:97] + "...")
    return str(value)[:120]


class _Short:
    """A list or mapping of a message: its size is bounded even where aliases make it huge."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return redact.text(reprlib.repr(self.value))


def _refusal(problems: Sequence[_Problem]) -> ConfigError:
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    head = [f"the settings have {len(lines)} problems"] if len(lines) > 1 else []
    fix = "correct the key" if len(lines) == 1 else "correct these keys"
    return ConfigError(
        problems[0].code, "\n  ".join(head + lines), fix=f"{fix}; `r1deploy init` writes every setting with its meaning"
    )


def _dotted(path: schema.Path) -> str:
    # No control character of a damaged file may reach the terminal.
    return ascii(".".join(path))[1:-1]


def _sources(settings: Settings, values: Mapping[schema.Path, _Value]) -> dict[str, Source]:
    return {".".join(path): values[path].source if path in values else DEFAULT for path, _ in leaves(settings)}
