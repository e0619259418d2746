"""Names of many hosts in a few words: ``node[02-32]``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

# Fewer names of one kind are written out: nobody has to read brackets for two hosts.
FEWEST = 3
MOST_PARTS = 6
WIDEST = 40
LONGEST_RUN = 1 << 12
# The last number of the first label; of an IPv4 address the last one of all.
_ADDRESS = re.compile(r"(?P<head>\d+\.\d+\.\d+\.)(?P<number>\d+)(?P<tail>)")
_NAME = re.compile(r"(?P<head>[^.:]*?)(?P<number>\d+)(?P<tail>[^.:\d]*(?:\.[^:]*)?)")
_RANGE = re.compile(r"(?P<head>[^\[\]]*)\[(?P<inside>\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*)\](?P<tail>[^\[\]]*)")


def parted(name: str) -> tuple[str, str, str] | None:
    """What stands before the number that counts hosts, the number, what stands after it; None for a name without.

    ``rack1-node02.example.org`` → ``("rack1-node", "02", ".example.org")``.
    """
    fits = _ADDRESS.fullmatch(name) or _NAME.fullmatch(name)
    return (fits["head"], fits["number"], fits["tail"]) if fits else None


def runs_of(numbers: Iterable[str]) -> Iterator[list[str]]:
    """Numbers in runs, of which each number is written like the one before, plus one: 9 and 10, 09 and 10."""
    run: list[str] = []
    for number in sorted(numbers, key=lambda text: (int(text), len(text))):
        if run and number != str(int(run[-1]) + 1).zfill(len(run[-1])):
            yield run
            run = []
        run.append(number)
    yield run


def brackets(head: str, numbers: Iterable[str], tail: str, widest: int = WIDEST) -> Iterator[tuple[str, int]]:
    """``node[01-16,18]`` with how many names that is; more than one text where the inside would be wider."""
    text, count = "", 0
    for run in runs_of(numbers):
        more = "-".join(dict.fromkeys((run[0], run[-1])))
        if text and len(text) + len(more) > widest:
            yield f"{head}[{text}]{tail}", count
            text, count = "", 0
        text, count = f"{text},{more}" if text else more, count + len(run)
    yield f"{head}[{text}]{tail}", count


def ranges(names: Iterable[str], widest: int = WIDEST) -> list[tuple[str, int]]:
    """Names, those of one kind together, each text with its number of names; no name is lost or invented.

    A kind stands where its first name stood. In: how many columns stand between brackets.
    """
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(names):
        parts = parted(name)
        kinds.setdefault((parts[0], parts[2]) if parts else (name,), []).append(name)
    found: list[tuple[str, int]] = []
    for kind, mine in kinds.items():
        if len(mine) < FEWEST:
            found += [(name, 1) for name in mine]
        else:
            found += brackets(kind[0], [parts[1] for parts in map(parted, mine) if parts], kind[1], widest)
    return found


def meant(text: str) -> list[str]:
    """The names that a user's text stands for, written as ``spoken`` writes it: ``head,node[02-32]``."""
    entries = filter(None, map(str.strip, re.split(r",(?![^\[]*\])", text)))
    return list(dict.fromkeys(name for entry in entries for name in spread(entry)))


def spread(entry: str) -> Iterator[str]:
    """The names of one kind, ``node[02-32]``; what is no such text is one name. Of a run ``LONGEST_RUN`` are enough."""
    fits = _RANGE.fullmatch(entry)
    if fits is None:
        yield entry
        return
    for part in fits["inside"].split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), min(int(last or first) + 1, int(first) + LONGEST_RUN)):
            yield f"{fits['head']}{str(number).zfill(len(first))}{fits['tail']}"


def spoken(names: Iterable[str], most: int | None = MOST_PARTS) -> str:
    """Names in one text: ``head, node[02-32]``. In: how many parts at the most, None for all; the rest is counted."""
    return _first(ranges(names), most)


def _first(parts: Sequence[tuple[str, int]], most: int | None) -> str:
    left = sum(count for _, count in parts[most:]) if most else 0
    return ", ".join(text for text, _ in parts[:most]) + (f" and {left} more" if left else "")


def brief(names: Iterable[str], room: int) -> str:
    """Names in at most so many columns, those that do not fit counted: ``node[01,03] and 30 more``.

    The first name alone may need more.
    """
    every = list(dict.fromkeys(names))
    for widest in (WIDEST, room // 2, room // 4):
        for most in (None, *range(MOST_PARTS, 0, -1)):
            text = _first(ranges(every, widest), most)
            if len(text) <= room:
                return text
    return _first([(name, 1) for name in every], 1)
