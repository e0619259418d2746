"""Files, folders and links below a root, as a list that travels, and the stream of the bytes that are lacked.

A row of a list: ``[path, "file", size, sha256, mode, mtime in ns]``, ``[path, "folder", mode]`` or
``[path, "link", target]``. A set of rows is a text of hex digits, a bit a row. What a list says is data: it leads
nowhere but below its root.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
import re
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from .plainfiles import open_plain, parse, read_bytes
from .saying import Refusal

LIMIT = 64 << 20
# As many as fit into an answer as bits.
MOST = 200_000
LONGEST, DEEPEST, LONGEST_NAME = 4096, 100, 255
LARGEST = 1 << 53
SHA256 = re.compile(r"[0-9a-f]{64}")
# A file that is not whole is called so, in its folder. Of what is larger than BIG bytes, the next run takes it up.
PARTIAL = ".r1part-"
BIG = 4 << 20
BLOCK = 1 << 18


class Entry(NamedTuple):
    """One row of a list."""

    path: str
    kind: str
    size: int = 0
    sha256: str = ""
    mode: int = 0o755
    mtime: int = 0
    target: str = ""

    @property
    def partial(self) -> str:
        """Its name while it is not whole: other content has another one."""
        return PARTIAL + hashlib.sha256(f"{self.sha256} {self.path!a}".encode()).hexdigest()[:32]

    def row(self) -> list[Any]:
        """As it stands in a list."""
        if self.kind == "file":
            return [self.path, "file", self.size, self.sha256, self.mode, self.mtime]
        return [self.path, self.kind, self.mode if self.kind == "folder" else self.target]


def entry_of(row: Any) -> Entry:
    """A row, strictly. Raises ValueError, TypeError where it is none, or leads out of the root."""
    path, kind, *more = row
    if not is_inside(path):
        raise ValueError(f"{path!r:.200} leads out of the folder")
    if kind == "file":
        size, sha256, mode, mtime = more
        whole = is_number(size, LARGEST) and is_number(mode, 0o777) and is_number(mtime, 1 << 63)
        if whole and isinstance(sha256, str) and SHA256.fullmatch(sha256):
            return Entry(path, "file", size, sha256, mode, mtime)
    elif kind == "folder" and len(more) == 1 and is_number(more[0], 0o777):
        return Entry(path, "folder", mode=more[0])
    elif kind == "link" and len(more) == 1 and is_target(more[0]):
        return Entry(path, "link", target=more[0])
    raise ValueError(f"{row!r:.200} is no file, folder or link")


def is_number(value: Any, most: int) -> bool:
    """Whether it is a whole number from 0 to ``most``."""
    return type(value) is int and 0 <= value <= most


def is_target(value: Any) -> bool:
    """Whether a link may lead there: it is never followed here."""
    return isinstance(value, str) and 0 < len(value) < LONGEST and "\0" not in value


def is_inside(path: Any) -> bool:
    """Whether a path is relative and stays below where it begins."""
    if not is_target(path):
        return False
    names = path.split("/")
    short = all(len(os.fsencode(name)) <= LONGEST_NAME for name in names)
    return short and len(names) <= DEEPEST and not {"", ".", ".."} & set(names)


def entries_of(rows: Any) -> list[Entry]:
    """The rows of a list. Raises Refusal where one of them is wrong, or two have one path."""
    try:
        entries = [entry_of(row) for row in rows[: MOST + 1]]
    except (ValueError, TypeError) as error:
        raise Refusal("STEP_FAILED", f"the list of files is wrong: {error}") from None
    if len(entries) > MOST or len({entry.path for entry in entries}) < len(entries):
        raise Refusal("STEP_FAILED", f"the list of files names one twice, or more than {MOST}")
    return entries


def listed(order: Mapping[str, Any]) -> list[Entry]:
    """The list that an order holds (``files``), or names (``list``, and its ``sha256``). Raises Refusal, OSError."""
    if "files" in order:
        return entries_of(order["files"])
    data = read_bytes(order["list"], LIMIT)
    if hashlib.sha256(data).hexdigest() != order["sha256"]:
        raise Refusal("STEP_FAILED", f"{order['list']} is not the list of this run")
    try:
        return entries_of(parse(data.decode("utf-8", "surrogatepass")))
    except ValueError:
        raise Refusal("STEP_FAILED", f"{order['list']} is no list") from None


def bits_of(numbers: Iterable[int], count: int) -> str:
    """A set of rows as text. In: their numbers, how many rows there are."""
    data = bytearray((count + 7) // 8)
    for number in numbers:
        data[number >> 3] |= 1 << (number & 7)
    return data.hex()


def numbers_in(bits: str, count: int) -> set[int]:
    """The numbers of the rows of a set."""
    data = bytes.fromhex(bits)
    return {number for number in range(min(count, 8 * len(data))) if data[number >> 3] >> (number & 7) & 1}


class Piece(NamedTuple):
    """What the stream holds of a file: all from a place on."""

    entry: Entry
    start: int
    number: int

    @property
    def length(self) -> int:
        """Bytes of it."""
        return self.entry.size - self.start


def pieces_of(order: Mapping[str, Any]) -> list[Piece]:
    """The stream: the files of the list that are in ``lacks``, one after another. Raises Refusal, OSError.

    ``starts``: {number: bytes that all have}.
    """
    entries, starts = listed(order), order["starts"]
    numbers = sorted(numbers_in(order["lacks"], len(entries)))
    pieces = [Piece(entries[number], starts.get(str(number), 0), number) for number in numbers]
    for piece in pieces:
        if piece.entry.kind != "file" or not 0 <= piece.start < piece.entry.size:
            raise Refusal("STEP_FAILED", f"{piece.entry.path}: nothing of it can be sent")
    return pieces


class Reading:
    """The stream read from the files below a root."""

    def __init__(self, root: str, pieces: Sequence[Piece]) -> None:
        self._root, self._pieces = root, pieces
        self._ends = list(itertools.accumulate(piece.length for piece in pieces))
        self.size = self._ends[-1] if pieces else 0

    def blocks(self, place: int) -> Iterator[bytes]:
        """The bytes from a place on, files together where they are small. Raises Refusal where a file is another."""
        data = bytearray()
        number = bisect.bisect_right(self._ends, place)
        skipped = place - (self._ends[number - 1] if number else 0)
        for piece in self._pieces[number:]:
            for block in self._file(piece, piece.start + skipped):
                data += block
                if len(data) >= BLOCK:
                    yield bytes(data)
                    data.clear()
            skipped = 0
        if data:
            yield bytes(data)

    def _file(self, piece: Piece, place: int) -> Iterator[bytes]:
        path, left = os.path.join(self._root, piece.entry.path), piece.entry.size - place
        try:
            with open_plain(path) as stream:
                stream.seek(place)
                while left:
                    block = stream.read(min(BLOCK, left))
                    if not block:
                        raise OSError(0, "it became shorter")
                    left -= len(block)
                    yield block
        except OSError as error:
            raise Refusal("STEP_FAILED", f"{path}: {error.strerror}") from None


def digest_of_start(read: Callable[[int], bytes], length: int) -> hashlib._Hash:
    """The sha256 so far of the first bytes of a file. Raises OSError where there are fewer."""
    digest = hashlib.sha256()
    while length:
        block = read(min(1 << 20, length))
        if not block:
            raise OSError(0, "it became shorter")
        digest.update(block)
        length -= len(block)
    return digest
