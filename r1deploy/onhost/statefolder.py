"""Our folder on the host for the probe: trees, sources, releases and their configurations, active, ``diag``, trust."""

from __future__ import annotations

import glob
import os
import pwd
import re
from typing import Any, Iterable, Mapping

from .diagfile import summaries
from .ownhost import free_gib, public_key_of
from .plainfiles import own_names, parse, read_end, read_sha256, read_text
from .trees import load, state

HISTORY_LINES = 20


def look_state(request: Mapping[str, Any]) -> dict[str, Any]:
    """All that lies in our folder. Raises ValueError where the record of what is active is damaged."""
    top = request["state_dir"]
    trees = own_names(glob.glob(top + "/trees/*"))
    return {
        "exists": os.path.isdir(top),
        "free_gib": free_gib(top),
        "trees": {os.path.basename(path): state(path) for path in trees},
        "sources": sources_of(top, trees),
        "releases": {os.path.basename(path): release_of(path) for path in own_names(glob.glob(top + "/releases/*"))},
        "bin": {os.path.basename(path): read_sha256(path) for path in own_names(glob.glob(top + "/bin/*"))},
        "folders": {path: mode_and_owner(path) for path in request["folders"]},
        "leftovers": leftovers_of(request),
        "history": last_lines(top + "/history.jsonl", HISTORY_LINES),
        "active": active_of(top + "/active.json"),
        "diag": summaries(top + "/diag.json"),
        "trust": {
            "public_key": public_key_of(top + "/trust/id_ed25519.pub"),
            "files": files_of(top + "/trust") if os.path.isdir(top + "/trust") else {},
        },
    }


def mode_and_owner(path: str) -> str | None:
    """A folder's mode and its owner's id; None where it is not there."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return f"{info.st_mode & 0o7777:04o} {info.st_uid}"


def sources_of(top: str, trees: Iterable[str]) -> dict[str, str | None]:
    """``{path of a clone below our folder: its commit, name of a tree + "/patched": the key of its patch}``."""
    sources = {}
    for path in trees:
        for clone in own_names(map(os.path.dirname, glob.glob(path + "/*/.git"))):
            sources[clone[len(top) + 1 :]] = git_head(clone)
        patched = load(os.path.join(path, "patched.json"))
        if isinstance(patched, dict):
            key = patched.get("key")
            sources[os.path.basename(path) + "/patched"] = key if isinstance(key, str) else None
    return sources


def git_head(path: str) -> str | None:
    """Commit that a clone's HEAD names, read from its files; None where there is no clone."""
    head = read_text(os.path.join(path, ".git", "HEAD"))
    if head is None or not head.startswith("ref: "):
        return head
    name = head[5:]
    direct = read_text(os.path.join(path, ".git", name))
    pattern = r"^([0-9a-f]{40}) " + re.escape(name) + "$"
    packed = re.search(pattern, read_text(path + "/.git/packed-refs") or "", re.MULTILINE)
    return direct or (packed.group(1) if packed else None)


def release_of(path: str) -> dict[str, Any]:
    """The configurations of a release, and the record of each."""
    folders = own_names(glob.glob(path + "/config/*"))
    return {
        "configs": {os.path.basename(folder): files_of(folder) for folder in folders},
        "records": {os.path.basename(folder): load(folder + "/release.json") for folder in folders},
    }


def files_of(folder: str) -> dict[str, list[str | None]]:
    """``{relative path: [sha256, mode]}`` of the files below a folder."""
    rows = {}
    for path, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            try:
                mode = f"{os.lstat(full).st_mode & 0o7777:04o}"
            except FileNotFoundError:
                continue  # gone since the folder was read
            rows[os.path.relpath(full, folder)] = [read_sha256(full), mode]
    return rows


def leftovers_of(request: Mapping[str, Any]) -> list[str]:
    """What an interrupted run leaves on a host, and the next one removes."""
    top = request["state_dir"]
    user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    patterns = ["/dev/shm/r1deploy-*", top + "/incoming*", top + "/trees/*/tmp", top + "/trees/*/incoming-*"]
    patterns += [folder + "/*.new" for folder in (top + "/bin", top + "/trees/*", top + "/releases/*/config/*")]
    patterns.append(os.path.join(os.path.expanduser("~" + user), request["remote_tmp"], "ansible-tmp-*"))
    owners = {0, os.getuid(), pwd.getpwnam(user).pw_uid}
    return [path for pattern in patterns for path in own_names(glob.glob(pattern)) if owner_of(path) in owners][:50]


def owner_of(path: str) -> int | None:
    """User id of a file's owner, not of what a link points to; None where it is gone."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def last_lines(path: str, count: int) -> list[Any]:
    """The last lines of a file of JSON lines, parsed; lines that are cut are left out."""
    rows = []
    for line in read_end(path)[-count:]:
        try:
            rows.append(parse(line))
        except ValueError:
            continue
    return rows


def active_of(path: str) -> dict[str, Any] | None:
    """What serve wrote down as active; None where it wrote nothing. Raises ValueError: a damaged record is none."""
    if not os.path.lexists(path):
        return None
    active = load(path)
    if not isinstance(active, dict):
        raise ValueError(f"{path} is damaged")
    return active
