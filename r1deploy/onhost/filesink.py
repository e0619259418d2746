"""The stream of a list's files, as it comes, into the files: each has its name only when its sha256 is right."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any, Mapping

from .belowroot import Root
from .destination import alone
from .filelist import BIG, Piece, digest_of_start, numbers_in, pieces_of
from .hashing import remember
from .plainfiles import read_json
from .private import private_folder
from .saying import Refusal
from .sums import stamp

WRITE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FileSink:
    """Files of a list on this host. In: ``root``, the list and its stream (``filelist``), and ``own``.

    ``own``: the files that are lacked here; the others are only passed on. ``record``: where the sums of a
    checkpoint are remembered, or None. ``guards``: the checkpoint whose lock is held, or None; ``locks``: where it
    lies. A file that arrives with other bytes is removed and counted as ``wrong``. Raises Refusal, OSError.
    """

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._pieces = pieces_of(order)
        self.size = sum(piece.length for piece in self._pieces)
        self._own = numbers_in(order["own"], 1 << 30)
        self._record, self._list = order["record"], order.get("list")
        self._lock = contextlib.ExitStack()
        if order["guards"]:
            self._lock.enter_context(alone(order["guards"], order["locks"]))
        if order.get("private"):
            private_folder(order["root"])
        self._root = Root(order["root"])
        self._next, self._left = 0, 0
        self._file: _File | None = None
        self._wrong = 0
        self._rows: dict[str, list[Any]] = {}

    def write(self, data: bytes) -> None:
        """Take some bytes. Raises Refusal DISK_FULL, OSError."""
        rest = memoryview(data)
        try:
            while rest:
                if not self._left:
                    self._begin(self._pieces[self._next])
                part = rest[: self._left]
                if self._file:
                    self._file.write(part)
                self._left -= len(part)
                rest = rest[len(part) :]
                if not self._left:
                    self._end()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Refusal("DISK_FULL", f"{self._root.path}: its disk is full") from None
            raise

    def _begin(self, piece: Piece) -> None:
        self._next, self._left = self._next + 1, piece.length
        self._file = _File(self._root, piece) if piece.number in self._own else None

    def _end(self) -> None:
        """A file is here."""
        file, self._file = self._file, None
        if file is None:
            return
        if not file.keep():
            self._wrong += 1
        elif self._record:
            entry = file.piece.entry
            self._rows[entry.path] = [*stamp(os.path.join(self._root.path, entry.path)), entry.sha256]
            if entry.size >= BIG:
                self._remember()

    def _remember(self) -> None:
        """The sums of what arrived stand beside those that are known already."""
        known = read_json(self._record)
        mine = isinstance(known, dict) and known.get("path") == self._root.path
        rows = known.get("files") if mine else None
        remember(self._record, self._root.path, {**(rows if isinstance(rows, dict) else {}), **self._rows})

    def finish(self) -> dict[str, Any]:
        """All is here: how many files are wrong. Without any, the list is removed."""
        if self._record:
            self._remember()
        if self._list and not self._wrong:
            os.unlink(self._list)
        self._lock.close()
        return {"wrong": self._wrong}

    def abandon(self) -> None:
        """It ends early. What is whole stays; a large file goes on next time where it is."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close(file.piece.entry.size < BIG)
        self._lock.close()


class _File:
    """A file that arrives."""

    def __init__(self, root: Root, piece: Piece) -> None:
        self.piece = piece
        self._folder, self._name = root.place(piece.entry.path)
        self._handle = os.open(piece.entry.partial, WRITE, 0o600, dir_fd=self._folder)
        os.ftruncate(self._handle, piece.start)
        self._digest = digest_of_start(lambda count: os.read(self._handle, count), piece.start)

    def write(self, data: memoryview) -> None:
        """More of it."""
        self._digest.update(data)
        while data:
            data = data[os.write(self._handle, data) :]

    def keep(self) -> bool:
        """Give it its name, where its bytes are right; whether they are."""
        entry = self.piece.entry
        right = self._digest.hexdigest() == entry.sha256
        if right:
            os.fchmod(self._handle, entry.mode)
            os.utime(self._handle, ns=(entry.mtime, entry.mtime))
            os.rename(entry.partial, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self.close(not right)
        return right

    def close(self, remove: bool) -> None:
        """End it."""
        os.close(self._handle)
        if remove:
            os.unlink(self.piece.entry.partial, dir_fd=self._folder)
