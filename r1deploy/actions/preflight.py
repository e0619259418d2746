"""All checks, read-only: on the hosts, across them, and of what the controller has to bring."""

from __future__ import annotations

from r1deploy.errors import PreflightError
from r1deploy.inputs.git import commit_of
from r1deploy.inputs.key import prove_key
from r1deploy.inputs.locking import password_file, resolved
from r1deploy.inputs.tarball import prove_tarball
from r1deploy.observe.context import Context
from r1deploy.observe.view import look, placeholder
from r1deploy.planning.findings import BOOTSTRAP, Check
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock
from r1deploy.voice import Say


def preflight(context: Context, say: Say) -> list[Check]:
    """Every finding. Hosts that do not answer are findings too, and the others are still looked at."""
    rows: list[Check] = []
    lock, problems = resolved(context.settings, lockfile.read(context.lock_path), frozenset(), say)
    rows += [failed(problem) for problem in problems]
    rows += controller(context, lock)
    try:
        password_file(context.settings)
    except PreflightError as error:
        rows.append(failed(error))
    view = look(context, placeholder(context.settings) if problems else lock)
    for name, failure in view.probed.failures.items():
        kind = "sudo" if failure.code.startswith("SUDO_") else "reachable"
        rows.append(Check(kind, name, False, failure.message, failure.code, failure.fix))
    for name in view.probed.observed:
        rows.append(Check("reachable", name, True, "answers", "SSH_FAILED"))
    return [*rows, *view.plan.checks]


def controller(context: Context, lock: Lock) -> list[Check]:
    """The key against the locked ciphertexts, the tarball, and the refs that upstream still has.

    In: the lock; what of it could not be resolved is a finding already.
    """
    settings = context.settings
    rows = []
    try:
        said = prove_key(settings, lock.patch.ciphertexts if lock.patch else {})
        rows.append(Check("key", None, True, said, "KEY_WRONG"))
    except PreflightError as error:
        rows.append(failed(error))
    try:
        if lock.image or not settings.image.tarball:
            rows.append(Check("tarball", None, True, prove_tarball(settings, lock.image), "TARBALL_DAMAGED"))
    except PreflightError as error:
        rows.append(failed(error))
    for name, source in (("flaggems", settings.flaggems), ("flagscale", settings.flagscale)):
        if getattr(lock, name) is None:
            continue
        try:
            commit = commit_of(settings, source)
            rows.append(Check("git", None, True, f"{name} {source.ref} is {commit[:12]}", "GIT_REF_GONE"))
        except PreflightError as error:
            rows.append(failed(error))
    return rows


def failed(error: PreflightError) -> Check:
    """An error as a finding, under the name of what its code is about: git, key, patch, tarball, registry."""
    said = f"{error.message}: {error.evidence[-1]}" if error.evidence else error.message
    return Check(error.code.partition("_")[0].lower(), None, False, said, error.code, error.fix, BOOTSTRAP)
