"""Checks of settings against each other: pure, no host is asked, no file is looked at."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from r1deploy.settings import schema, volumes
from r1deploy.settings.model import Engine, Settings

# (path, what is wrong and what to write instead)
Finding = tuple[tuple[str, ...], str]

PATHS: tuple[tuple[str, str], ...] = (
    ("ssh", "key_file"),
    ("ssh", "known_hosts"),
    ("image", "tarball"),
    ("image", "registry_password_file"),
    ("patch", "key_dir"),
    ("service", "api_key_file"),
    ("site", "ca_bundle"),
    ("weights", "manifest"),
    ("eval", "data"),
    ("eval", "against_key_file"),
)
"""Settings that name a file or folder of this machine."""

_LONG = frozenset({("service", "prompt"), ("vllm", "build"), ("vllm", "install")})
"""Settings whose text may have several lines."""
_URLS = frozenset({("flaggems", "url"), ("flagscale", "url")})
_WORDS = frozenset(
    {
        ("ssh", "user"),
        ("builder",),
        ("image", "name"),
        ("image", "registry_user"),
        ("container", "pid"),
        ("container", "network"),
        ("flaggems", "ref"),
        ("flagscale", "ref"),
        ("patch", "device_type"),
        ("patch", "backends"),
        ("patch", "task"),
        ("python", "executable"),
        ("weights", "repo"),
        ("weights", "revision"),
    }
)
"""Settings that are one word of a command line."""
# An empty pid mode is the engine's default: a pid namespace of the container's own.
_MAY_BE_EMPTY = frozenset({("container", "pid")})
PATTERNS: dict[str, tuple[int | str, ...]] = {
    "smi_pattern": ("index", "name", "memory", "used"),
    "smi_sick_pattern": (1,),
    "smi_version_pattern": (1, 2),
}
"""Regular expressions of a chip, and the groups that are read of each."""

# vLLM's own variable: the layers of each pipeline stage; it ends at its start where their number is another.
LAYERS = "VLLM_PP_LAYER_PARTITION"

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ARGUMENT = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
# FlagScale pastes these values unquoted into a shell script.
_PLAIN = re.compile(r"[A-Za-z0-9_./:,@%+=-]*")
_STATE_DIR = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+/?")


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with ``settings`` beyond the type of each value."""
    yield from _texts(settings)
    if (settings.image.registry_user is None) != (settings.image.registry_password_file is None):
        yield ("image", "registry_user"), "goes with image.registry_password_file: set both or none"
    yield from _places(settings)
    yield from _extra(settings.engine)
    yield from _environment(settings)
    for name, groups in PATTERNS.items():
        if error := _pattern_error(getattr(settings.chip, name), groups):
            yield ("chip", name), error


def _texts(settings: Settings) -> Iterator[Finding]:
    for path, node in schema.nodes().items():
        if node.kind != "leaf":
            continue
        value: object = settings
        for name in path:
            value = getattr(value, name)
        for index, text in enumerate(value if isinstance(value, list) else [value]):
            where = (*path[:-1], f"{path[-1]}[{index}]") if isinstance(value, list) else path
            if isinstance(text, str) and (problem := _text_problem(path, text)):
                yield where, problem


def _text_problem(path: tuple[str, ...], text: str) -> str | None:
    if not text and path in _MAY_BE_EMPTY:
        return None
    if not text.strip():
        return "is empty; leave the line out"
    if "\0" in text or (path not in _LONG and not text.isprintable()):
        return "must be one line without control characters"
    if path in _WORDS | _URLS and text.startswith("-"):
        return "begins with a dash: a program would take it for an option"
    if path in _WORDS and re.search(r"\s", text):
        return "must be one word"
    return None


def _places(settings: Settings) -> Iterator[Finding]:
    if not _STATE_DIR.fullmatch(settings.state_dir):
        yield ("state_dir",), "must be a folder below /, of letters, digits and _ . - only: scripts name it unquoted"
    seen: dict[str, int] = {}
    for index, text in enumerate(settings.container.volumes):
        volume = volumes.parse(text)
        path = ("container", f"volumes[{index}]")
        if volume is None:
            yield path, f"{text!r} is no volume; write /host/path:/container/path or /host/path:/container/path:ro"
        elif seen.setdefault(volume.container, index) != index:
            yield path, f"{volume.container} is mounted already by volumes[{seen[volume.container]}]"
    if volumes.weights_host_path(settings) is None:
        known = [volume.container for volume in volumes.mounted(settings)]
        text = f"{settings.engine.model!r} lies in no volume of the container ({', '.join(known) or 'there is none'})"
        yield ("engine", "model"), f"{text}: add the weights' folder to container.volumes"


def _extra(engine: Engine) -> Iterator[Finding]:
    for name in ("model", "served_model_name"):
        if not _PLAIN.fullmatch(getattr(engine, name)):
            yield ("engine", name), "takes letters, digits and _ . / : , @ % + = - only: FlagScale does not quote it"
    seen: dict[str, str] = {}
    for key, value in engine.extra.items():
        path = ("engine", "extra", key)
        first = seen.setdefault(key.replace("-", "_"), key)
        same = f"the same argument as {first}" if first != key else None
        problem = _argument_problem(key) or same or _argument_value_problem(path, value)
        if problem:
            yield path, problem


def _argument_problem(key: str) -> str | None:
    """Return why ``key`` cannot be a further argument of the engine, or None if it can."""
    name = key.replace("-", "_")
    if not _ARGUMENT.fullmatch(key):
        return "an engine argument is lower case, without the leading dashes: such as enforce_eager"
    if name in set(Engine.model_fields) - {"extra"}:
        return f"set engine.{name} instead: it is an argument r1deploy knows"
    if name == "api_key":
        return "an API key here would show in logs; put it into a file and name that in service.api_key_file"
    return None


def _argument_value_problem(path: tuple[str, ...], value: object) -> str | None:
    if value is False:
        return "FlagScale drops an argument that is false; leave it out, or write its opposite: true (no_…)"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    return _text_problem(path, value) if isinstance(value, str) else None


def _environment(settings: Settings) -> Iterator[Finding]:
    for key, value in settings.env.items():
        yield from _variable(("env", key), value)
    stages = settings.env.get(LAYERS)
    if stages is not None and len(stages.split(",")) != settings.engine.pipeline_parallel_size:
        pp = settings.engine.pipeline_parallel_size
        yield ("env", LAYERS), f"{stages!r} is not the layers of {pp} stages (engine.pipeline_parallel_size)"
    for key, number in settings.service.envs.items():
        yield from _variable(("service", "envs", key), str(number))
        if not _PLAIN.fullmatch(str(number)):
            yield ("service", "envs", key), "FlagScale cannot take a value with a space or quotes here; put it into env"
    for key, value in settings.chip.smi_env.items():
        yield from _variable(("chip", "smi_env", key), value)
    for key, value in settings.weights.env.items():
        yield from _variable(("weights", "env", key), value)


def _variable(path: tuple[str, ...], value: str) -> Iterator[Finding]:
    name = path[-1]
    if not _ENV_NAME.fullmatch(name):
        yield path, "is no name of an environment variable (letters, digits and _)"
    if "\0" in value:
        yield path, "an environment variable cannot hold a NUL byte"
    if name == "VLLM_API_KEY":
        yield path, "put the key into a file of mode 0600 and name that in service.api_key_file"
    if name == "VLLM_HOST_IP":
        yield path, "r1deploy sets it on every host to that host's own address"


def _pattern_error(text: str, groups: Iterable[int | str]) -> str | None:
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    known = {*range(pattern.groups + 1), *pattern.groupindex}
    missing = [str(group) for group in groups if group not in known]
    return f"the regular expression lacks group {', '.join(missing)}" if missing else None
