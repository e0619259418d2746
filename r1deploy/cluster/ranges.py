"""Names of many hosts in a few words: ``node[02-32]``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# Fewer names of one kind are written out: nobody has to read brackets for two hosts.
FEWEST = 3
MOST_PARTS = 6
WIDEST = 40
# The last number of the first label; of an IPv4 address the last one of all.
_ADDRESS = re.compile(r"(?P<head>\d+\.\d+\.\d+\.)(?P<number>\d+)(?P<tail>)")
_NAME = re.compile(r"(?P<head>[^.:]*?)(?P<number>\d+)(?P<tail>[^.:\d]*(?:\.[^:]*)?)")


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


def brackets(head: str, numbers: Iterable[str], tail: str) -> Iterator[tuple[str, int]]:
    """``node[01-16,18]`` with how many names that is; more than one text where it would be wider than ``WIDEST``."""
    text, count = "", 0
    for run in runs_of(numbers):
        more = "-".join(dict.fromkeys((run[0], run[-1])))
        if text and len(text) + len(more) > WIDEST:
            yield f"{head}[{text}]{tail}", count
            text, count = "", 0
        text, count = f"{text},{more}" if text else more, count + len(run)
    yield f"{head}[{text}]{tail}", count


def ranges(names: Iterable[str]) -> list[tuple[str, int]]:
    """Names, those of one kind together, each text with its number of names; no name is lost or invented.

    A kind stands where its first name stood.
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
            found += brackets(kind[0], [parts[1] for parts in map(parted, mine) if parts], kind[1])
    return found


def spoken(names: Iterable[str], most: int | None = MOST_PARTS) -> str:
    """Names in one text: ``head, node[02-32]``. In: how many parts at the most, None for all; the rest is counted."""
    parts = ranges(names)
    kept = parts if most is None or len(parts) <= most else parts[:most]
    left = sum(count for _, count in parts[len(kept) :])
    return ", ".join(text for text, _ in kept) + (f" and {left} more" if left else "")
