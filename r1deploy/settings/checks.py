"""Checks of settings against each other: pure, no host is asked, no file is looked at."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from r1deploy.settings import volumes
from r1deploy.settings.model import Engine, Settings

# (path, what is wrong and what to write instead)
Finding = tuple[tuple[str, ...], str]

PATHS: tuple[tuple[str, str], ...] = (
    ("ssh", "key_file"),
    ("ssh", "known_hosts"),
    ("image", "tarball"),
    ("patch", "key_dir"),
    ("service", "api_key_file"),
    ("weights", "manifest"),
)
"""Settings that name a file or folder of this machine."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ARGUMENT = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
# FlagScale pastes these values unquoted into a shell script.
_PLAIN = re.compile(r"[A-Za-z0-9_./:,@%+=-]*")
_STATE_DIR = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+/?")


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with ``settings`` beyond the type of each value."""
    yield from _places(settings)
    yield from _extra(settings.engine)
    yield from _environment(settings)
    if error := _pattern_error(settings.chip.smi_version_pattern):
        yield ("chip", "smi_version_pattern"), f"not a regular expression: {error}"


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
        known = [volume.container for text in settings.container.volumes if (volume := volumes.parse(text))]
        text = f"{settings.engine.model!r} lies in no volume of the container ({', '.join(known) or 'there is none'})"
        yield ("engine", "model"), f"{text}: add the weights' folder to container.volumes"


def _extra(engine: Engine) -> Iterator[Finding]:
    known = set(Engine.model_fields) - {"extra"}
    seen: dict[str, str] = {}
    for key, value in engine.extra.items():
        path = ("engine", "extra", key)
        name = key.replace("-", "_")
        if not _ARGUMENT.fullmatch(key):
            yield path, "an engine argument is lower case, without the leading dashes: such as enforce_eager"
        elif name in known:
            yield path, f"set engine.{name} instead: it is an argument r1deploy knows"
        elif name == "api_key":
            yield path, "an API key here would show in logs; put it into a file and name that in service.api_key_file"
        elif seen.setdefault(name, key) != key:
            yield path, f"the same argument as {seen[name]}"
        elif value is False:
            yield path, "FlagScale drops an argument that is false; leave it out, or write its opposite: true (no_…)"
        elif isinstance(value, float) and not math.isfinite(value):
            yield path, "must be a finite number"


def _environment(settings: Settings) -> Iterator[Finding]:
    for key, value in settings.env.items():
        yield from _variable(("env", key), value)
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


def _pattern_error(text: str) -> str | None:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return None
