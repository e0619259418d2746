"""The work on a host around a stream of files: list what is here; prepare for what is to come, and say what lacks."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import shutil
import stat
from typing import Iterator, Mapping, Sequence

from .answering import Answer, Order, answer_once
from .belowroot import Root
from .destination import alone, refuse_too_much
from .filelist import BIG, LIMIT, MOST, PARTIAL, Entry, bits_of, listed
from .hashing import Hashing, sums_of
from .private import private_folder
from .saying import Refusal


def make_list(order: Order) -> Answer:
    """List what is below the ``parts`` of ``root``, hash it, and write the list to ``list``.

    ``skip``: patterns of names that do not count. ``follow``: whether a link that leads out of the root counts as the
    file that it leads to. ``record``: where sums are remembered, or None. Raises Refusal, OSError.
    """
    root = os.path.normpath(order["root"])
    found = [row for part in order["parts"] for row in below(root, part, order["skip"])]
    if order["follow"]:
        found = [(path, behind(root, path, info)) for path, info in found]
    if len(found) > MOST:
        raise Refusal("STEP_FAILED", f"{root}: more than {MOST} files")
    sums = hashed(root, [path for path, info in found if stat.S_ISREG(info.st_mode)], order["record"])
    entries = [entry_at(root, path, info, sums) for path, info in found]
    data = json.dumps([entry.row() for entry in entries], separators=(",", ":")).encode()
    if len(data) > LIMIT:
        raise Refusal("STEP_FAILED", f"{root}: the list of its files is longer than {LIMIT} bytes")
    private_folder(os.path.dirname(order["list"]))
    with open(order["list"], "wb") as stream:
        stream.write(data)
    files = [entry for entry in entries if entry.kind == "file"]
    return {
        "files": len(files),
        "bytes": sum(entry.size for entry in files),
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def below(root: str, part: str, skip: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Files, folders and links of a part, a folder before what is in it; a part may be one file."""
    top = os.path.join(root, part) if part else root
    info = os.lstat(top)
    if part and not stat.S_ISDIR(info.st_mode):
        yield part, info
        return
    for folder, names, files in os.walk(top):
        if folder != root:
            yield os.path.relpath(folder, root), os.lstat(folder)
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        names[:] = sorted(name for name in names if name not in links and not skipped(name, skip))
        for name in sorted([*files, *links]):
            path = os.path.relpath(os.path.join(folder, name), root)
            info = os.lstat(os.path.join(folder, name))
            if not skipped(name, skip) and (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
                yield path, info


def skipped(path: str, skip: Sequence[str]) -> bool:
    """Whether a name does not count."""
    name = os.path.basename(path)
    return name.startswith(PARTIAL) or any(fnmatch.fnmatchcase(name, pattern) for pattern in skip)


def behind(root: str, path: str, info: os.stat_result) -> os.stat_result:
    """The file to which a link leads that leads out of the root; else what is there itself."""
    if stat.S_ISLNK(info.st_mode):
        full = os.path.join(root, path)
        top = os.path.realpath(root)
        absolute = os.path.isabs(os.readlink(full))
        inside = os.path.commonpath([top, os.path.realpath(full)]) == top
        with contextlib.suppress(OSError):
            if (absolute or not inside) and stat.S_ISREG(os.stat(full).st_mode):
                return os.stat(full)
    return info


def hashed(root: str, names: Sequence[str], record: str | None) -> dict[str, str]:
    """The sha256 of files."""
    if record:
        return sums_of(root, names, record)[0]
    total = sum(os.stat(os.path.join(root, name)).st_size for name in names)
    rows = Hashing(root).rows(names, total)
    return {name: row[-1] for name, row in rows.items()}


def entry_at(root: str, path: str, info: os.stat_result, sums: Mapping[str, str]) -> Entry:
    """What is there, as a row of a list."""
    mode = stat.S_IMODE(info.st_mode) & 0o777
    if stat.S_ISLNK(info.st_mode):
        return Entry(path, "link", target=os.readlink(os.path.join(root, path)))
    if stat.S_ISDIR(info.st_mode):
        return Entry(path, "folder", mode=mode)
    return Entry(path, "file", info.st_size, sums[path], mode, info.st_mtime_ns)


def prepare(order: Order) -> Answer:
    """Make folders, links and empty files of the list below ``root``; say which files are lacked.

    Without any, the list is removed. ``exact``: folders in which nothing stays that the list does not name, and modes
    are as it says. ``starts``: of large files that are lacked, so many bytes are here already. Raises Refusal, OSError.
    """
    with alone(order["guards"], order["locks"]) if order["guards"] else contextlib.nullcontext(), unless_failed(order):
        entries = listed(order)
        root = Root(order["root"])
        for part in order["exact"]:
            remove_others(root, part, entries)
        for entry in entries:
            made(root, entry)
        right = right_ones(root, entries, order)
        starts = partial_ones(root, entries, right)
        lacks = [n for n, entry in enumerate(entries) if entry.kind == "file" and entry.path not in right]
        if not lacks:
            os.unlink(order["list"])
    size = sum(entries[n].size - starts.get(n, 0) for n in lacks)
    refuse_too_much(order["root"], size)
    return {
        "lacks": bits_of(lacks, len(entries)),
        "starts": {str(number): count for number, count in starts.items()},
        "files": len(lacks),
        "bytes": size,
    }


@contextlib.contextmanager
def unless_failed(order: Order) -> Iterator[None]:
    """The list stays, unless something fails."""
    try:
        yield
    except BaseException:
        forget(order)
        raise


def remove_others(root: Root, part: str, entries: Sequence[Entry]) -> None:
    """Remove below a part what the list does not name, or names as something else; the part itself where it is that.

    No link is followed. Raises Refusal, OSError.
    """
    wanted = {entry.path: entry.kind for entry in entries}
    partial = partials(entries)
    folder, name = root.place(part)
    here = looked(folder, name)
    if here is None or kind_of(here) != wanted.get(part) or kind_of(here) != "folder":
        if here and kind_of(here) != wanted.get(part):
            remove(folder, name)
        return
    for above, names, files, handle in os.fwalk(name, dir_fd=folder):
        top = part + above[len(name) :]
        for one in [*names, *files]:
            info = os.stat(one, dir_fd=handle, follow_symlinks=False)
            if wanted.get(f"{top}/{one}") == kind_of(info) or (top, one) in partial:
                continue
            if one in names:
                names.remove(one)
            remove(handle, one)


def remove(folder: int, name: str) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if kind_of(os.stat(name, dir_fd=folder, follow_symlinks=False)) == "folder":
        shutil.rmtree(f"/proc/self/fd/{folder}/{name}")
    else:
        os.unlink(name, dir_fd=folder)


def kind_of(info: os.stat_result) -> str:
    """The kind as a list says it; "" for what no list has."""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(info.st_mode), "")


def partials(entries: Sequence[Entry]) -> set[tuple[str, str]]:
    """Folder and name of the large files that may be here in part."""
    return {
        (os.path.dirname(entry.path), entry.partial) for entry in entries if entry.kind == "file" and entry.size >= BIG
    }


def made(root: Root, entry: Entry) -> None:
    """Make what has no bytes to wait for: a folder, a link, an empty file. Raises Refusal, OSError."""
    folder, name = root.place(entry.path)
    here = looked(folder, name)
    if entry.kind == "folder":
        if not here:
            os.mkdir(name, entry.mode, dir_fd=folder)
        elif kind_of(here) != "folder":
            raise Refusal("STEP_FAILED", f"{root.path}/{entry.path}: no folder but a link or a file at {name}")
    elif entry.kind == "link":
        if here and not (kind_of(here) == "link" and os.readlink(name, dir_fd=folder) == entry.target):
            os.unlink(name, dir_fd=folder)
            here = None
        if not here:
            os.symlink(entry.target, name, dir_fd=folder)
    elif not entry.size and not (here and kind_of(here) == "file" and not here.st_size):
        if here:
            os.unlink(name, dir_fd=folder)
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, entry.mode, dir_fd=folder))


def looked(folder: int, name: str) -> os.stat_result | None:
    """What a name stands for; None where it is not there."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    return None


def right_ones(root: Root, entries: Sequence[Entry], order: Order) -> set[str]:
    """The files that are here with the bytes that they should have; with ``exact``, modes and times follow."""
    same = []
    for entry in entries:
        here = looked(*root.place(entry.path)) if entry.kind != "link" else None
        if here and kind_of(here) == entry.kind and (entry.kind == "folder" or here.st_size == entry.size):
            same.append(entry)
    sums = hashed(order["root"], [entry.path for entry in same if entry.kind == "file"], order["record"])
    right = [entry for entry in same if entry.kind == "folder" or sums[entry.path] == entry.sha256]
    if order["exact"]:
        for entry in right:
            dress(root, entry)
    return {entry.path for entry in right}


def dress(root: Root, entry: Entry) -> None:
    """Mode and time as the list says."""
    folder, name = root.place(entry.path)
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        info = os.fstat(handle)
        if stat.S_IMODE(info.st_mode) != entry.mode:
            os.fchmod(handle, entry.mode)
        if entry.kind == "file" and info.st_mtime_ns != entry.mtime:
            os.utime(handle, ns=(entry.mtime, entry.mtime))
    finally:
        os.close(handle)


def partial_ones(root: Root, entries: Sequence[Entry], right: set[str]) -> dict[int, int]:
    """Bytes of large files that are here in part, by number; what else is called so is removed."""
    expected = partials([entry for entry in entries if entry.path not in right])
    for above in {os.path.dirname(entry.path) for entry in entries}:
        folder, _ = root.place(f"{above}/-" if above else "-")
        for name in os.listdir(folder):
            if name.startswith(PARTIAL) and (above, name) not in expected:
                os.unlink(name, dir_fd=folder)
    starts = {}
    for number, entry in enumerate(entries):
        if (os.path.dirname(entry.path), entry.partial) in expected and entry.path not in right:
            here = looked(root.place(entry.path)[0], entry.partial)
            if here and kind_of(here) == "file" and 0 < here.st_size <= entry.size:
                # One that is whole gets its name from the last byte, as all do.
                starts[number] = min(here.st_size, entry.size - 1)
    return starts


def forget(order: Order) -> Answer:
    """Remove a list again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(order["list"])
    return {}


OPS = {"list": make_list, "prepare": prepare, "forget": forget}


def main(text: str) -> int:
    """Do what the order asks for, and answer once; the exit code."""
    return answer_once(OPS, text)
