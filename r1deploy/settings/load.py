"""Settings from all their sources: flag > environment > r1deploy.yaml > profile > default.

Every source is first flattened to one value a key; later ones replace earlier
ones key by key, so that each value keeps its origin. Problems are collected
and reported together.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic

from r1deploy.errors import UsageError
from r1deploy.settings import profiles, schema, validation, yamlfile
from r1deploy.settings.layers import add_document, add_environment, add_flags
from r1deploy.settings.merge import DEFAULT, Merge, Source, Value
from r1deploy.settings.model import Settings
from r1deploy.settings.problems import Problem, from_pydantic, refusal, without_index

FILE_NAME = "r1deploy.yaml"
Look = Callable[[Settings], Iterable[validation.Finding]]


def nothing_more(_: Settings) -> Iterable[validation.Finding]:
    """Nothing else may be wrong."""
    return ()


@dataclass(frozen=True)
class Loaded:
    """The settings, the source of each value by its dotted path, and the file (None: there is none)."""

    settings: Settings
    sources: Mapping[str, Source]
    path: Path | None


def load(folder: Path, flags: Mapping[str, object], environ: Mapping[str, str], further: Look = nothing_more) -> Loaded:
    """Return the settings of the cluster whose ``r1deploy.yaml`` lies in ``folder``.

    ``flags``: dotted path → value of the right type; None is null. ``environ``: the environment;
    of it only ``R1DEPLOY_SECTION__KEY`` counts. ``further``: what else may be wrong, known above this room.
    Without r1deploy.yaml the profile stands alone.
    Relative paths in values mean ``folder``. Raises ConfigError with all problems at once (SETTINGS_*,
    PROFILE_UNKNOWN), UsageError where ``folder`` is none.
    """
    merge = Merge()
    document = _document(folder)
    # Twice: which profile lies below is known only when all that lies above it has been read.
    top = Merge()
    _add_own(top, document, flags, environ)
    add_document(merge, _profile(top, folder), "profile", forbidden=("profile",))
    merge.below = dict(merge.values)
    _add_own(merge, document, flags, environ)
    settings = _validated(merge, folder, further)
    path = folder / FILE_NAME if document is not None else None
    return Loaded(settings, _sources(settings, merge.values), path)


def from_profile(profile: str, folder: Path = Path()) -> Settings:
    """Return the settings of the vendor profile ``profile`` alone; raises as ``load`` does."""
    merge = Merge()
    add_document(merge, profiles.read(profile, folder), "profile", forbidden=("profile",))
    merge.put(("profile",), profile, Source("flag", ""))
    return _validated(merge, folder)


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
            raise _missing(f"there is no folder {folder}", "give the cluster's folder with -C")
        other = folder / "r1deploy.yml"
        if other.exists():
            raise _missing(f"{other} would not be read", f"mv {shlex.quote(str(other))} {shlex.quote(str(path))}")
    except (OSError, ValueError) as error:
        raise _missing(f"cannot look into the folder {folder}: {error}") from error
    return None


def _missing(message: str, fix: str | None = None) -> UsageError:
    return UsageError("SETTINGS_MISSING", message, fix=fix)


def _profile(top: Merge, folder: Path) -> yamlfile.Document:
    value = top.values[("profile",)].value
    # A value of another type is reported with everything else.
    return profiles.read(value if isinstance(value, str) else profiles.default(), folder)


def _add_own(
    merge: Merge, document: yamlfile.Document | None, flags: Mapping[str, object], environ: Mapping[str, str]
) -> None:
    """Add all that is the user's, the strongest last; below it the name of the profile, which has to be one."""
    merge.put(("profile",), profiles.default(), DEFAULT)
    if document is not None:
        add_document(merge, document, "file")
    add_environment(merge, environ)
    add_flags(merge, flags)


def _validated(merge: Merge, folder: Path, further: Look = nothing_more) -> Settings:
    """Return the model of the merged values; raises ConfigError with all problems."""
    _resolve_paths(merge, folder)
    try:
        settings = Settings.model_validate(_nested(merge.values))
    except pydantic.ValidationError as error:
        bad = from_pydantic(error, merge.where)
        merge.problems += bad + _problems_despite(bad, merge, further)
        raise refusal(merge.problems) from error
    merge.problems += _problems(settings, merge, further)
    if merge.problems:
        raise refusal(merge.problems)
    return settings


def _nested(values: Mapping[schema.Path, Value]) -> dict[str, object]:
    data: dict[str, object] = {}
    for path, node in schema.nodes().items():
        if node.kind != "leaf":
            _set(data, path, {})
    for path, item in values.items():
        _set(data, path, item.value)
    return data


def _problems(settings: Settings, merge: Merge, further: Look) -> list[Problem]:
    """Return what is wrong with the values together, though each has the right type."""
    rows = (*validation.findings(settings), *further(settings))
    return [Problem("SETTINGS_VALUE", path, merge.where(path), text) for path, text in rows]


def _problems_despite(bad: Sequence[Problem], merge: Merge, further: Look) -> list[Problem]:
    """Return what else is wrong, so that the user need not mend the ``bad`` values first to see it."""
    replaced = {without_index(problem.path) for problem in bad}
    values = {path: item for path, item in merge.values.items() if path not in replaced}
    values |= {path: item for path, item in merge.below.items() if path in replaced}
    try:
        settings = Settings.model_validate(_nested(values))
    except pydantic.ValidationError:
        return []
    # Whether the weights are mounted is not known while the volumes are not.
    unknown = {("engine", "model")} if ("container", "volumes") in replaced else set()
    return [problem for problem in _problems(settings, merge, further) if problem.path not in replaced | unknown]


def _set(data: dict[str, object], path: schema.Path, value: object) -> None:
    for name in path[:-1]:
        inner = data.setdefault(name, {})
        assert isinstance(inner, dict)  # the schema's sections and mappings, made first
        data = inner
    data[path[-1]] = value


def _resolve_paths(merge: Merge, folder: Path) -> None:
    """Make the paths of this machine absolute, so that nothing depends on where r1deploy was called."""
    for path in validation.PATHS:
        item = merge.values.get(path)
        if item is None or not isinstance(item.value, str):
            continue
        if not item.value.strip() or "\0" in item.value:
            merge.refuse(path, item.source.where, f"{item.value!r} is no path; write null for none")
            continue
        resolved = os.path.abspath(folder.absolute() / os.path.expanduser(item.value))
        merge.values[path] = Value(resolved, item.source)


def _sources(settings: Settings, values: Mapping[schema.Path, Value]) -> dict[str, Source]:
    return {".".join(path): values[path].source if path in values else DEFAULT for path, _ in leaves(settings)}
