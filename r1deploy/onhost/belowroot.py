"""Folders below a root, which no link leads out of."""

from __future__ import annotations

import contextlib
import errno
import os

from .saying import Refusal

OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Root:
    """A folder, made where it is not there, and what is below it. Paths are those of a list: checked."""

    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self.path = path
        self._handle = os.open(path, OPEN)
        self._last, self._folder = "", self._handle

    def place(self, path: str) -> tuple[int, str]:
        """The open folder of a path, good until the next call, and the name in it. Folders above it are made.

        Raises Refusal where a link or a file is in the way.
        """
        above, _, name = path.rpartition("/")
        if above != self._last:
            self._forget()
            self._folder = self._opened(above) if above else self._handle
            self._last = above
        return self._folder, name

    def _opened(self, path: str) -> int:
        handle = os.dup(self._handle)
        for name in path.split("/"):
            above = handle
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=above)
                handle = os.open(name, OPEN | os.O_NOFOLLOW, dir_fd=above)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                raise Refusal("STEP_FAILED", f"{self.path}/{path}: no folder but a link or a file at {name}") from None
            finally:
                os.close(above)
        return handle

    def _forget(self) -> None:
        if self._folder != self._handle:
            os.close(self._folder)
        self._last, self._folder = "", self._handle
