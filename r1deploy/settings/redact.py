"""What of a setting may be shown: never a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "(hidden)"
# Whole words only: max_tokens is no secret. A file's path is none either.
_SECRET = re.compile(r"(^|[_.-])(api_?key|access_?key|secret|token|passw(or)?d|credentials?)([_.-]|$)", re.IGNORECASE)
_FILE = re.compile(r"(_file|_dir|_path)$", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")


_KNOWN: set[str] = set()


def remember(secret: str) -> None:
    """Hide this value wherever it would be printed or logged from now on; short ones hide too much and are left."""
    for line in secret.splitlines():
        if len(line.strip()) >= 8 and not line.startswith("-----"):
            _KNOWN.add(line.strip())


def hide(value: str) -> str:
    """Return ``value`` without the secrets that are known in this run."""
    for secret in _KNOWN:
        value = value.replace(secret, HIDDEN)
    return value


def shown(path: tuple[str, ...], value: object) -> object:
    """Return ``value`` of the setting ``path`` with every secret hidden; same shape."""
    if path and _SECRET.search(path[-1]) and not _FILE.search(path[-1]) and value is not None:
        return HIDDEN
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [shown((), item) for item in value]
    if isinstance(value, Mapping):
        return {key: shown((str(key),), item) for key, item in value.items()}
    return value


def text(value: str) -> str:
    """Return ``value`` without the login of a URL."""
    return _LOGIN.sub(HIDDEN, value)


def without_login(url: str) -> str:
    """Return ``url`` without its login: ``https://a:b@host/`` → ``https://host/``."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", url)


def without_logins(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with the login taken out of every URL in them, however deep."""
    return {key: _cleaned(value) for key, value in values.items()}


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return without_login(value)
    if isinstance(value, Mapping):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
