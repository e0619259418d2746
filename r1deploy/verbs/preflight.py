"""All checks, read-only: on the hosts, across them, and of what the controller has to bring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from r1deploy.errors import PreflightError, R1Error, UnreachableError
from r1deploy.inputs.git import commit_of
from r1deploy.inputs.key import prove_key
from r1deploy.inputs.locking import password_file, resolved
from r1deploy.inputs.tarball import prove_tarball
from r1deploy.observe.view import look, placeholder
from r1deploy.planning.findings import BOOTSTRAP, Check, failed, passed
from r1deploy.run import Run
from r1deploy.settings import lockfile
from r1deploy.settings.lockfile import Lock


@dataclass(frozen=True)
class Findings:
    """What was looked at; ``exit_code`` is that of the error which a failed finding would be, 0 without one."""

    checks: tuple[Check, ...]
    exit_code: int


def findings(checks: Iterable[Check], silent_hosts: bool = False) -> Findings:
    """Findings with their exit code. In: whether hosts did not answer."""
    rows = tuple(checks)
    error: type[R1Error] = UnreachableError if silent_hosts else PreflightError
    return Findings(rows, 0 if all(row.ok for row in rows) else error.exit_code)


def preflight(run: Run) -> Findings:
    """Every finding. Hosts that do not answer are findings too, and the others are still looked at."""
    lock, problems = resolved(run.settings, lockfile.read(run.context.lock_path), frozenset(), run.say)
    rows = [finding(problem) for problem in problems]
    rows += controller(run, lock)
    try:
        password_file(run.settings)
    except PreflightError as error:
        rows.append(finding(error))
    view = look(run.context, placeholder(run.settings) if problems else lock)
    failures = view.probed.failures.values()
    for failure in failures:
        kind = "sudo" if failure.code.startswith("SUDO_") else "reachable"
        rows.append(failed(failure.code, kind, failure.message, failure.fix).at(failure.host))
    rows += [passed("reachable", "answers").at(name) for name in view.probed.observed]
    silent = any(not failure.code.startswith("SUDO_") for failure in failures)
    return findings([*rows, *view.plan.checks], silent)


def controller(run: Run, lock: Lock) -> Iterator[Check]:
    """The key against the locked ciphertexts, the tarball, and the refs that upstream still has.

    In: the lock; what of it could not be resolved is a finding already.
    """
    settings = run.settings
    try:
        yield passed("key", prove_key(settings, lock.patch.ciphertexts if lock.patch else {}))
    except PreflightError as error:
        yield finding(error)
    try:
        if lock.image or not settings.image.tarball:
            yield passed("tarball", prove_tarball(settings, lock.image))
    except PreflightError as error:
        yield finding(error)
    for name, source in (("flaggems", settings.flaggems), ("flagscale", settings.flagscale)):
        if getattr(lock, name) is None:
            continue
        try:
            yield passed("git", f"{name} {source.ref} is {commit_of(settings, source)[:12]}")
        except PreflightError as error:
            yield finding(error)


def finding(error: PreflightError) -> Check:
    """An error as a finding, under the name of what its code is about: git, key, patch, tarball, registry."""
    said = f"{error.message}: {error.evidence[-1]}" if error.evidence else error.message
    return failed(error.code, error.code.partition("_")[0].lower(), said, error.fix, BOOTSTRAP)
