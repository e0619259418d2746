"""The FlagScale hostfile: a strict parser, because FlagScale's own guesses.

FlagScale ignores trailing text and treats a missing file as "this machine
only". Here every line is either understood whole or refused with its number.
The plain ``host slots=N`` of DeepSpeed and Open MPI is understood too.
"""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1deploy.errors import ConfigError, R1Error, UsageError

TYPES = ("gpu", "cpu")
DEFAULT_TYPE = "gpu"
# No machine has so many chips; more is a slip of the keyboard.
MAX_SLOTS = 1024
SAMPLE = "10.0.0.1 slots=16 type=gpu"

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_LAST_OF_ADDRESS = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_NUMBER = re.compile(r"[0-9]{1,9}")
_NEWLINE = re.compile(r"\r\n|\n|\r")
_SNIFFED_BYTES = 1 << 20


@dataclass(frozen=True)
class HostEntry:
    """One line of a hostfile; ``type`` is None where the file gives none."""

    address: str
    slots: int
    type: str | None = None


@dataclass(frozen=True)
class _Problem:
    """What is wrong with one line."""

    code: str
    number: int
    line: str
    text: str
    fix: str


class _Bad(Exception):
    """A field is wrong (inside this module only)."""

    def __init__(self, code: str, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.hint = hint


def read(path: Path) -> list[HostEntry]:
    """Return the hosts of the hostfile ``path``, in its order (the first is the head).

    Raises UsageError where there is no readable file, ConfigError where its content is refused.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(
            "HOSTFILE_MISSING",
            f"cannot read the hostfile {path}: {reason}",
            fix=f"give the path of a hostfile with one line a host, such as: {SAMPLE}",
        ) from error
    return parse(_decode(data, str(path)), str(path))


def parse(text: str, name: str) -> list[HostEntry]:
    """Return the hosts of a hostfile's ``text``, in its order.

    ``name`` is the file's name for messages. Raises ConfigError with every bad line
    as ``name:line``, the lines themselves as evidence and a right line as fix.
    """
    entries: list[tuple[int, str, HostEntry]] = []
    problems: list[_Problem] = []
    for number, line in enumerate(_NEWLINE.split(text.removeprefix("\ufeff")), start=1):
        fields = line.partition("#")[0].strip(" \t").split()
        if not fields:
            continue
        try:
            entries.append((number, line, _entry(fields)))
        except _Bad as bad:
            problems.append(_Problem(bad.code, number, line, bad.text, bad.hint or _sample(fields)))
    problems += _duplicates(entries) + _mixed_types(entries)
    if problems:
        raise _refusal(sorted(problems, key=lambda problem: problem.number), name)
    if not entries:
        raise ConfigError(
            "HOSTFILE_EMPTY",
            f"{name}:1: the hostfile names no host",
            fix=f"write one line a host, the head first, such as: {SAMPLE}",
        )
    return [entry for _, _, entry in entries]


def render(entries: Sequence[HostEntry]) -> str:
    """Return the hostfile FlagScale reads; a host without a type gets ``type=gpu``."""
    return "".join(f"{entry.address} slots={entry.slots} type={entry.type or DEFAULT_TYPE}\n" for entry in entries)


def looks_like_hostfile(path: Path) -> bool:
    """Return whether ``path`` is a hostfile rather than an Ansible inventory.

    A hostfile has a line whose second field is ``slots``, no ``[section]`` and no Ansible
    variable. A script or a folder is an inventory; so is what cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return False
        with path.open("rb") as file:
            text = file.read(_SNIFFED_BYTES).decode("utf-8-sig", errors="replace")
    except (OSError, ValueError):
        return False
    # The mode alone says nothing: on some shares every file is executable.
    if text.startswith("#!"):
        return False
    lines = [line.partition("#")[0].split() for line in _NEWLINE.split(text)]
    fields = [line for line in lines if line]
    if any(re.fullmatch(r"\[[^\]]+\]", line[0]) or any("ansible_" in field for field in line) for line in fields):
        return False
    return any(len(line) > 1 and re.match(r"slots(=|$)", line[1]) for line in fields)


def address_problem(address: str) -> str | None:
    """Return why ``address`` cannot be the address of a host, or None if it can."""
    if "@" in address:
        return "an address without a user is expected; the user belongs into the inventory (ansible_user)"
    if "[" in address:
        return "ranges work in an Ansible inventory, not in a hostfile"
    if re.fullmatch(r"[^:]+:[0-9]+", address):
        return "an address without a port is expected; the port belongs into the inventory (ansible_port)"
    try:
        return _ip_problem(ipaddress.ip_address(address))
    except ValueError:
        pass
    labels = address.split(".")
    if len(address) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "it is neither a host name nor an IPv4 address"
    # A resolver takes such a name for an address: 1.2.3 and 0x0a000001 are ones to it.
    if _LAST_OF_ADDRESS.fullmatch(labels[-1]):
        return "it is not an IPv4 address"
    return None


def slots_problem(text: str) -> str | None:
    """Return why ``text`` cannot be a number of slots, or None if it can."""
    if text == "":
        return "slots has no value"
    if not _NUMBER.fullmatch(text):
        return f"slots={_short(text)} is not a whole number from 1 to {MAX_SLOTS}"
    if int(text) == 0:
        return "slots=0: a host without chips takes no part"
    if int(text) > MAX_SLOTS:
        return f"slots={text} is absurd: no machine has more than {MAX_SLOTS} chips"
    return None


def _decode(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = len(_NEWLINE.split(data[: error.start].decode("utf-8", errors="replace")))
        raise _not_text(name, number, f"byte {data[error.start]:#04x} is not UTF-8", data) from error
    if "\0" in text:
        number = len(_NEWLINE.split(text[: text.index("\0")]))
        raise _not_text(name, number, "a NUL byte is no text", data)
    return text


def _not_text(name: str, number: int, reason: str, data: bytes) -> ConfigError:
    line = data.splitlines()[number - 1 : number]
    return ConfigError(
        "HOSTFILE_ENCODING",
        f"{name}:{number}: {reason}",
        evidence=[f"{number}: {item!a}" for item in line],
        fix=f"save the file as UTF-8 text; a right line: {SAMPLE}",
    )


def _entry(fields: list[str]) -> HostEntry:
    """Return the host of one line's fields; raises _Bad."""
    problem = address_problem(fields[0])
    if problem:
        raise _Bad("HOSTFILE_ADDRESS", f"{_short(fields[0])}: {problem}")
    return HostEntry(fields[0], _slots(fields), _type(fields))


def _slots(fields: list[str]) -> int:
    if len(fields) == 1:
        raise _Bad("HOSTFILE_SLOTS", "slots is missing")
    key, equals, value = fields[1].partition("=")
    if key != "slots":
        raise _Bad("HOSTFILE_SLOTS", f"slots=N is expected after the address, not {_short(fields[1])}")
    if not equals or (not value and len(fields) > 2):
        raise _Bad("HOSTFILE_SLOTS", "slots=N must be written without spaces")
    problem = slots_problem(value)
    if problem:
        raise _Bad("HOSTFILE_SLOTS", problem)
    return int(value)


def _type(fields: list[str]) -> str | None:
    if len(fields) == 2:
        return None
    key, equals, value = fields[2].partition("=")
    if key != "type":
        raise _Bad("HOSTFILE_LINE", f"trailing text that FlagScale would ignore: {_short(' '.join(fields[2:]))}")
    if not equals or value not in TYPES:
        raise _Bad("HOSTFILE_TYPE", f"{_short(fields[2])}: the type must be {' or '.join(TYPES)}")
    if len(fields) > 3:
        raise _Bad("HOSTFILE_LINE", f"trailing text that FlagScale would ignore: {_short(' '.join(fields[3:]))}")
    return value


def _duplicates(entries: list[tuple[int, str, HostEntry]]) -> list[_Problem]:
    first: dict[str, int] = {}
    problems = []
    for number, line, entry in entries:
        seen = first.setdefault(entry.address.lower(), number)
        if seen != number:
            text = f"{entry.address} is there already, at line {seen}"
            problems.append(_Problem("HOSTFILE_DUPLICATE", number, line, text, "keep one line a host"))
    return problems


def _mixed_types(entries: list[tuple[int, str, HostEntry]]) -> list[_Problem]:
    """FlagScale refuses a file where only some hosts have a type."""
    for number, line, entry in entries:
        if (entry.type is None) != (entries[0][2].type is None):
            first = entries[0][0]
            have = "has no type, line {} has one" if entry.type is None else "has a type, line {} has none"
            fix = f"give every host a type, such as: {entry.address} slots={entry.slots} type={DEFAULT_TYPE}"
            return [_Problem("HOSTFILE_TYPE", number, line, f"{entry.address} {have.format(first)}", fix)]
    return []


def _refusal(problems: list[_Problem], name: str) -> R1Error:
    lines = [f"{name}:{problem.number}: {problem.text}" for problem in problems]
    if len(lines) > 1:
        lines.insert(0, f"{name}: {len(lines)} problems")
    return ConfigError(
        problems[0].code,
        "\n  ".join(lines),
        evidence=[f"{problem.number}: {_short(problem.line, quoted=False)}" for problem in problems],
        fix=problems[0].fix,
    )


def _sample(fields: list[str]) -> str:
    """Return a right line as like to the bad one as can be."""
    if address_problem(fields[0]) is not None:
        return f"a right line: {SAMPLE}"
    slots = [field[6:] for field in fields[1:] if field.startswith("slots=") and slots_problem(field[6:]) is None]
    return f"a right line: {fields[0]} slots={slots[0] if slots else 16} type={DEFAULT_TYPE}"


def _ip_problem(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    # FlagScale writes ADDRESS:PORT without brackets.
    if address.version == 6:
        return "FlagScale cannot use an IPv6 address; give a host name or an IPv4 address"
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        return "no host can have this address"
    return None


def _short(text: str, *, quoted: bool = True) -> str:
    short = text if len(text) <= 120 else text[:117] + "..."
    # Control characters of a damaged file must not reach the terminal.
    return ascii(short) if quoted or not short.isprintable() else short
