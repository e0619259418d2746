"""Interface names in the settings' environment: how each library reads them, and which a host does not have.

NCCL and its kin (``*CCL_SOCKET_IFNAME``) take a list of beginnings of names: ``eth0`` means
``eth0.2093`` too, ``=eth0`` that one only, ``^eth0`` all others. Gloo and the rest take whole names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

AUTO = "auto"
ENDING = "_IFNAME"
PREFIXES = "CCL_SOCKET_IFNAME"


def value_of(name: str, value: str, nic: str | None) -> str:
    """What a host's environment says for a variable of the settings. In: the interface of the host's address."""
    if value != AUTO:
        return value
    return f"={nic}" if nic and name.endswith(PREFIXES) else nic or ""


def meant(name: str, value: str, nics: Iterable[str]) -> list[str]:
    """The interfaces of a host with ``nics`` that the library takes where a variable has this value."""
    mark, words = _words(name, value)
    if not name.endswith(PREFIXES):
        return [nic for nic in nics if nic in words]
    hits = [nic for nic in nics if any(nic == word if mark == "=" else nic.startswith(word) for word in words)]
    return [nic for nic in nics if nic not in hits and nic != "lo"] if mark == "^" else hits


def absent(name: str, value: str, nics: Iterable[str]) -> list[str]:
    """The interfaces that a variable names and a host with ``nics`` does not have; empty where it will do."""
    nics = list(nics)
    if not name.endswith(PREFIXES):
        return [word for word in _words(name, value)[1] if word not in nics]
    return [] if meant(name, value, nics) else _words(name, value)[1]


def _words(name: str, value: str) -> tuple[str, list[str]]:
    """(the mark in front, the names)."""
    is_list = name.endswith(PREFIXES)
    mark = value[:1] if is_list and value[:1] in ("^", "=") else ""
    words = [word.strip() for word in value.removeprefix(mark).split(",") if word.strip()]
    # NCCL lets a name be followed by a port.
    return mark, [word.partition(":")[0] for word in words] if is_list else words


def engine_nic(env: Mapping[str, str], nic: str | None, nics: Iterable[str]) -> str:
    """The interface that the engine will use: that of the host's address, unless a variable names only others.

    In: the settings' environment; the interface of the address; all of the host's. "" where nobody knows.
    """
    nics = list(nics)
    for name, value in named(env).items():
        hits = meant(name, value, nics)
        if hits and nic not in hits:
            return hits[0]
    return nic or ""


def named(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of the settings that name interfaces, without those that r1deploy fills in."""
    return {name: value for name, value in env.items() if name.endswith(ENDING) and value != AUTO}
