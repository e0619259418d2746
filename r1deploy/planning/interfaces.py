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


def absent(name: str, value: str, nics: Iterable[str]) -> list[str]:
    """The interfaces that a variable names and a host with ``nics`` does not have; empty where it will do."""
    nics = list(nics)
    mark = value[:1] if name.endswith(PREFIXES) and value[:1] in ("^", "=") else ""
    words = [word.strip() for word in value.removeprefix(mark).split(",") if word.strip()]
    if not name.endswith(PREFIXES):
        return [word for word in words if word not in nics]
    # NCCL lets a name be followed by a port.
    wanted = [word.partition(":")[0] for word in words]
    hits = [nic for nic in nics if any(nic == word if mark == "=" else nic.startswith(word) for word in wanted)]
    if mark == "^":
        return [] if set(nics) - {*hits, "lo"} else words
    return [] if hits else words


def named(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of the settings that name interfaces, without those that r1deploy fills in."""
    return {name: value for name, value in env.items() if name.endswith(ENDING) and value != AUTO}
