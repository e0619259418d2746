"""``r1deploy.lock``: what the settings resolved to, for the user's git."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from r1deploy.errors import ConfigError
from r1deploy.settings import redact, schema, yamlfile

FILE_NAME = "r1deploy.lock"
HEADER = """\
# Written by r1deploy: what r1deploy.yaml resolved to. Keep it in git, do not edit it.
# `r1deploy bootstrap --upgrade [NAME]` moves it.
"""

Commit = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]
ImageId = Annotated[StrictStr, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[StrictStr, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class LockedSource(_Part):
    """A repository: what was asked for, and the commit it was."""

    url: Text
    ref: Text
    commit: Commit


class LockedPatch(_Part):
    """The vendor's patch: its FlagScale commit, and the sha256 of each ciphertext by its path there."""

    commit: Commit
    ciphertexts: dict[str, Sha256] = Field(default_factory=dict)


class LockedImage(_Part):
    """The vendor's image: its name and id; of a tarball its sha256, the image's architecture, how it is packed.

    ``manifest`` is what an engine with the other kind of image store calls the same image: the one kind
    names it by its configuration, the other (containerd's) by its manifest. Only ``id`` names releases.
    """

    name: Text
    id: ImageId | None = None
    manifest: ImageId | None = None
    tarball_sha256: Sha256 | None = None
    arch: Text | None = None
    packed: Text | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        """All that the image may be called; either is right."""
        return tuple(digest for digest in (self.id, self.manifest) if digest)


class Lock(_Part):
    """The whole lock file; a part that is None has not been resolved yet."""

    version: Literal[1] = 1
    flaggems: LockedSource | None = None
    flagscale: LockedSource | None = None
    patch: LockedPatch | None = None
    image: LockedImage | None = None


def read(path: Path) -> Lock | None:
    """Return the lock file ``path``, or None where there is none; raises ConfigError (LOCK_INVALID)."""
    try:
        if not path.exists() and not path.is_symlink():
            return None
    except (OSError, ValueError) as error:
        raise ConfigError("LOCK_INVALID", f"cannot read {path}: {error}", fix=restore(path)) from error
    try:
        document = yamlfile.read(path, str(path), code="LOCK_INVALID")
    except ConfigError as error:
        # Nobody wrote this file by hand: how to write YAML is no help here.
        raise ConfigError(error.code, error.message, fix=restore(path)) from error
    return _locked(document, path)


def _locked(document: yamlfile.Document, path: Path) -> Lock:
    """Return the lock that a YAML document is; raises ConfigError (LOCK_INVALID)."""
    version = document.data.get("version")
    if version != 1 or isinstance(version, bool):
        said = f"{document.where(('version',))}: version: 1 is expected, not {version!r:.60}"
        raise _invalid(path, [said], version)
    try:
        return Lock.model_validate({str(key): value for key, value in document.data.items()})
    except pydantic.ValidationError as error:
        lines = []
        for detail in error.errors(include_url=False):
            place = tuple(str(part) for part in detail["loc"])
            lines.append(f"{document.where(place)}: {schema.dotted(place)}: {detail['msg']}")
        raise _invalid(path, lines, version) from error


def write(path: Path, lock: Lock) -> None:
    """Write ``lock`` to ``path``: whole or not at all, the same bytes for the same lock.

    Raises ConfigError (LOCK_WRITE).
    """
    text = HEADER + yaml.safe_dump(_plain(lock), sort_keys=True, allow_unicode=True, width=1000)
    try:
        _replace(path, text.encode("utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            "LOCK_WRITE", f"cannot write {path}: {why}", fix="make room there, or let this user write there"
        ) from error


def _plain(lock: Lock) -> dict[str, object]:
    data: dict[str, object] = lock.model_dump(mode="python", exclude_none=True)
    for part in (data.get("flaggems"), data.get("flagscale")):
        # The file goes into git: a login in a URL must not.
        if isinstance(part, dict):
            part["url"] = redact.without_login(part["url"])
    return data


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes it 0600; the file is the team's.
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def restore(path: Path) -> str:
    """What mends a lock file: the commands, as they can be typed."""
    folder, name = shlex.quote(str(path.parent)), shlex.quote(path.name)
    kept = f"git -C {folder} checkout -- {name}"
    return f"{kept}; where it is not in git: rm {shlex.quote(str(path))}, and the next bootstrap resolves anew"


def _invalid(path: Path, lines: list[str], version: object) -> ConfigError:
    newer = isinstance(version, int) and version > 1
    fix = "use a newer r1deploy" if newer else restore(path)
    return ConfigError("LOCK_INVALID", "\n  ".join(lines), fix=fix)


def moved(old: Lock | None, new: Lock) -> list[tuple[str, str, str, str]]:
    """What a new lock has other than the old one: (name, old, new, what was asked for); hashes whole."""
    rows = []
    for name in ("flaggems", "flagscale"):
        had, has = getattr(old, name, None), getattr(new, name)
        if has and (had is None or had.commit != has.commit):
            rows.append((name, had.commit if had else "not locked", has.commit, has.ref))
    had_id = old.image.id if old and old.image else None
    if new.image and new.image.id and new.image.id != had_id:
        rows.append(("image", had_id or "not locked", new.image.id, new.image.name))
    return rows
