"""Lock what the settings ask for: refs to commits, ciphertexts to sha256, the tarball to an image id.

All of it is read here on the controller, before any host is changed.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from r1deploy.errors import ConfigError, PreflightError
from r1deploy.inputs.git import blobs, commit_of
from r1deploy.inputs.tarball import lock_image
from r1deploy.settings.lockfile import Lock, LockedImage, LockedPatch, LockedSource
from r1deploy.settings.model import Settings, Source
from r1deploy.settings.redact import without_login
from r1deploy.voice import Say


def patch_paths(settings: Settings) -> list[str]:
    """The patches inside FlagScale's tree."""
    suffix = "diff.patch.encrypted" if settings.patch.encrypted else "diff.patch"
    return [f"hardware/{settings.patch.device_type}/{backend}/{suffix}" for backend in settings.patch.backends]


def resolve(settings: Settings, lock: Lock | None, upgrade: frozenset[str], say: Say) -> Lock:
    """A lock that fits the settings; entries that still fit are kept as they are.

    In: names to resolve anew (``flaggems``, ``flagscale``, ``image``). Raises PreflightError with all that cannot be.
    """
    fresh, problems = resolved(settings, lock, upgrade, say)
    if not problems:
        return fresh
    first = problems[0]
    if len(problems) == 1:
        raise first
    message = "\n".join(
        [f"{len(problems)} things cannot be resolved", *(f"{row.message} ({row.code})" for row in problems)]
    )
    fixes = dict.fromkeys(row.fix for row in problems if row.fix)
    evidence = [line for row in problems for line in row.evidence]
    raise PreflightError(first.code, message, evidence=evidence, fix="\n".join(fixes) or None)


def resolved(
    settings: Settings, lock: Lock | None, upgrade: frozenset[str], say: Say
) -> tuple[Lock, list[PreflightError]]:
    """As ``resolve``, as far as it goes: what cannot be resolved is None in the lock, and told beside it."""
    old = lock or Lock(version=1)
    parts: dict[str, Callable[[], object]] = {
        "flaggems": lambda: resolved_source("flaggems", settings, old.flaggems, upgrade, say),
        "flagscale": lambda: resolved_source("flagscale", settings, old.flagscale, upgrade, say),
        "patch": lambda: resolved_patch(settings, old.patch, say),
        "image": lambda: resolved_image(settings, old.image, upgrade, say),
    }
    entries: dict[str, object] = {}
    problems: list[PreflightError] = []
    for name, part in parts.items():
        try:
            entries[name] = part()
        except PreflightError as error:
            problems.append(error)
    return Lock.model_validate({"version": 1, **entries}), problems


def resolved_source(
    name: str, settings: Settings, held: LockedSource | None, upgrade: frozenset[str], say: Say
) -> LockedSource:
    """A repository's commit. In: the name of its section in the settings."""
    wanted: Source = getattr(settings, name)
    url = without_login(wanted.url)
    if held and (held.url, held.ref) == (url, wanted.ref) and name not in upgrade:
        return held
    commit = commit_of(settings, wanted)
    say(f"locked {name} {wanted.ref} at {commit[:12]}")
    return LockedSource(url=url, ref=wanted.ref, commit=commit)


def resolved_patch(settings: Settings, held: LockedPatch | None, say: Say) -> LockedPatch:
    """The sha256 of each ciphertext at the patch's commit."""
    paths = patch_paths(settings)
    if held and held.commit == settings.patch.commit and sorted(held.ciphertexts) == sorted(paths):
        return held
    files = blobs(settings, settings.patch.commit, paths)
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    if paths:
        say(f"locked {len(paths)} patches of FlagScale {settings.patch.commit[:12]}")
    return LockedPatch(commit=settings.patch.commit, ciphertexts=digests)


def resolved_image(
    settings: Settings, held: LockedImage | None, upgrade: frozenset[str], say: Say
) -> LockedImage | None:
    """The tarball's image; without a tarball what is held, where it is of the wanted name."""
    fits = held is not None and held.name == settings.image.name
    if not settings.image.tarball or (fits and "image" not in upgrade):
        return held if fits else None
    image = lock_image(settings)
    say(f"locked {settings.image.name} as {str(image.id)[7:19]}")
    return image


def password_file(settings: Settings) -> Path | None:
    """The registry's password, checked for place and mode; None where a pull needs none. Raises PreflightError."""
    if settings.image.tarball or settings.image.registry_password_file is None:
        return None
    path = Path(settings.image.registry_password_file)
    if not path.is_file() or not os.access(path, os.R_OK):
        message = f"image.registry_password_file: {path} cannot be read"
        raise PreflightError("REGISTRY_PASSWORD", message, fix="write the password into it, mode 0600")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        message = f"image.registry_password_file: {path} is open to others (mode {mode:04o})"
        raise PreflightError("REGISTRY_PASSWORD", message, fix=f"chmod 0600 {shlex.quote(str(path))}")
    return path


def need(lock: Lock) -> tuple[LockedSource, LockedSource, LockedPatch]:
    """The parts of a lock that every release needs. Raises ConfigError where one is missing."""
    if lock.flaggems is None or lock.flagscale is None or lock.patch is None:
        raise ConfigError("LOCK_INVALID", "r1deploy.lock is not complete", fix="remove it and run bootstrap again")
    return lock.flaggems, lock.flagscale, lock.patch
