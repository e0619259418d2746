"""One tree of errors: a class per exit code, a stable code per cause.

Raising never prints and never logs. One place (``r1deploy.cli``) turns an
error into a message, a JSON document and an exit code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

# Every code that is raised anywhere, with one line for the docs. Tests hold it against the sources.
ErrorCode: Final[dict[str, str]] = {
    "BUG": "r1deploy itself failed; the traceback is in the log file",
    "INTERRUPTED": "the run was interrupted; the message says on which hosts work may still go on",
    "HOSTFILE_MISSING": "the hostfile is not there or cannot be read",
    "HOSTFILE_EMPTY": "the hostfile names no host",
    "HOSTFILE_ENCODING": "the hostfile is not UTF-8 text",
    "HOSTFILE_LINE": "a line of the hostfile is not `ADDRESS slots=N type=gpu`",
    "HOSTFILE_ADDRESS": "an address is neither a host name nor an IPv4 address",
    "HOSTFILE_DUPLICATE": "two hosts have the same name or address",
    "HOSTFILE_SLOTS": "the number of slots is missing, not a number, 0 or absurd",
    "HOSTFILE_TYPE": "a type is neither gpu nor cpu, or only some hosts have one",
    "INVENTORY_MISSING": "the inventory is not there or cannot be read",
    "INVENTORY_EMPTY": "the inventory names no host",
    "INVENTORY_INVALID": "Ansible cannot read the inventory",
    "INVENTORY_VALUE": "a host variable of the inventory has a value that cannot be used",
    "PROBE_INCOMPLETE": "a host did not answer the probe, or not with all it was asked",
    "LIMIT_EMPTY": "--limit matches no host",
    "LIMIT_WITHOUT_HEAD": "--limit leaves out the head",
    "FILE_EXISTS": "a file that would be written is there already",
    "SETTINGS_MISSING": "the folder of the settings is not there, or r1deploy.yaml has another name",
    "SETTINGS_YAML": "a settings file cannot be read as YAML",
    "SETTINGS_UNKNOWN_KEY": "a setting does not exist; the message names the nearest one",
    "SETTINGS_VALUE": "a setting has a value of the wrong type or out of range",
    "PROFILE_UNKNOWN": "no vendor profile has this name",
    "LOCK_INVALID": "r1deploy.lock cannot be read",
    "LOCK_WRITE": "r1deploy.lock cannot be written",
}


class R1Error(Exception):
    """Base of all errors of r1deploy; by itself it stands for a bug.

    In: a code of ``ErrorCode``, what happened (with where), and what is known besides:
    ``host`` (inventory name), ``evidence`` (last lines of the failed thing),
    ``fix`` (what the user can do), ``log`` (full log).
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        code: str,
        message: str,
        *,
        host: str | None = None,
        evidence: Sequence[str] = (),
        fix: str | None = None,
        log: Path | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.host = host
        self.evidence = tuple(evidence)
        self.fix = fix
        self.log = log

    def to_dict(self) -> dict[str, object]:
        """Return the error for ``--json``: only JSON types, every key always there."""
        return {
            "code": self.code,
            "message": self.message,
            "host": self.host,
            "evidence": list(self.evidence),
            "fix": self.fix,
            "log": None if self.log is None else str(self.log),
            "exit_code": self.exit_code,
        }


class UsageError(R1Error):
    """The command line asks for something that cannot be meant."""

    exit_code = 2


class ConfigError(R1Error):
    """The configuration (hostfile, inventory, settings, lock file) is refused."""

    exit_code = 3


class UnreachableError(R1Error):
    """A host cannot be reached, or its probe came back incomplete."""

    exit_code = 4


class PreflightError(R1Error):
    """Preflight refuses; ``blockers`` are the findings (dataclasses, mappings or text)."""

    exit_code = 5

    def __init__(
        self,
        code: str,
        message: str,
        *,
        blockers: Sequence[object] = (),
        host: str | None = None,
        evidence: Sequence[str] = (),
        fix: str | None = None,
        log: Path | None = None,
    ) -> None:
        super().__init__(code, message, host=host, evidence=evidence, fix=fix, log=log)
        self.blockers = tuple(blockers)

    def to_dict(self) -> dict[str, object]:
        """Return the error for ``--json``, the blockers included."""
        return super().to_dict() | {"blockers": [_plain(blocker) for blocker in self.blockers]}


class ApplyError(R1Error):
    """A step failed on a host, or a difference was left after it."""

    exit_code = 6


class GateError(R1Error):
    """The service did not prove that it serves."""

    exit_code = 7


class LockedError(R1Error):
    """Another run holds the cluster."""

    exit_code = 8


class DriftFound(R1Error):
    """The plan is not empty; only ``plan --exit-code`` raises it."""

    exit_code = 10


class Interrupted(R1Error):
    """The run was cancelled from outside."""

    exit_code = 130


def _plain(value: object) -> object:
    """Return ``value`` made of JSON types only; what has no such form becomes text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    return str(value)
