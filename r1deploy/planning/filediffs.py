"""What changes inside a rendered file: where its former text lies on a host, and the lines that differ."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from r1deploy.planning.desired import Desired
from r1deploy.planning.observed import Observed
from r1deploy.planning.recorded import Record
from r1deploy.settings import redact

CONTEXT = 1
# A longer line, such as the engine's command, is compared flag by flag.
LONG_LINE = 100
_NAME = re.compile(r"[A-Za-z][\w.-]*")
_WORD = re.compile(r"""\s*(?:'[^']*'|"(?:\\.|[^"\\])*"|[^\s'"]|['"])+|\s+""")


@dataclass(frozen=True)
class Former:
    """The text that a host has of a file, which is to change: its path there, and the folders that it may name.

    ``edited``: it lies in the wanted configuration already, and somebody changed it.
    """

    host: str
    file: str
    path: str
    folders: tuple[str, str]
    edited: bool


@dataclass(frozen=True)
class FileDiff:
    """What changes of a file on a host, as lines of a unified diff; ``why`` there are none, else None."""

    host: str
    file: str
    edited: bool
    lines: tuple[str, ...]
    why: str | None = None


def formers(desired: Desired, observed: Mapping[str, Observed], record: Record | None) -> Iterator[Former]:
    """The files that are to change and were there before. In: the record of the active release, or of the only one."""
    if desired.config_id is None:
        return
    wanted = (desired.release.id, desired.config_id)
    places = [wanted, *([(record.release, record.config)] if record else [])]
    for host in desired.hosts:
        seen = observed.get(host.name)
        for name, file in desired.configs[host.name].items() if seen else ():
            for place in places:
                state = seen.state.releases.get(place[0]) if seen else None
                has = state.configs.get(place[1], {}).get(name, (None,))[0] if state else None
                if has is None:
                    continue
                if has != file.sha256:
                    at = desired.layout
                    folders = (at.config(*place), at.release(place[0]))
                    yield Former(host.name, name, f"{folders[0]}/{name}", folders, place == wanted)
                break


def diff_of(old: str, new: str) -> tuple[str, ...]:
    """A unified diff without its head, secrets hidden; no lines where the texts differ in nothing that may be shown."""
    rows = difflib.unified_diff(list(shown_lines(old)), list(shown_lines(new)), n=CONTEXT, lineterm="")
    return tuple(itertools.islice(rows, 2, None))


def shown_lines(text: str) -> Iterator[str]:
    """The lines of a configuration, without what follows a secret's name; a long command in parts."""
    for line in redact.text(redact.hide(text)).splitlines():
        for part in flags(line) if len(line) > LONG_LINE else [line]:
            secret = next((word for word in _NAME.finditer(part) if redact.names_a_secret(word.group())), None)
            yield f"{part[: secret.end()]} {redact.HIDDEN}" if secret and part[secret.end() :].strip() else part


def flags(line: str) -> list[str]:
    """A command in parts, of which each but the first begins with a flag; what stands in quotes stays whole."""
    parts = [""]
    for word in _WORD.findall(line):
        if parts[0] and word.startswith(" -"):
            parts.append(word.lstrip())
        else:
            parts[-1] += word
    return parts


def moved_to(text: str, former: Former, desired: Desired) -> str:
    """A former text that names the wanted folders instead of its own: that it moved is no change of it."""
    for old, new in zip(former.folders, (desired.config_dir, desired.release_dir), strict=True):
        text = text.replace(old, new)
    return text
