"""What was found that forbids to go on, as one error."""

from __future__ import annotations

from collections.abc import Iterable

from r1deploy.ansible.failures import Failure
from r1deploy.cluster.alike import alike
from r1deploy.cluster.host import Host
from r1deploy.cluster.ranges import brief, meant, spoken
from r1deploy.errors import PreflightError, R1Error, UnreachableError, UsageError
from r1deploy.observe.probing import Probed
from r1deploy.observe.view import View
from r1deploy.planning.findings import Check

# Columns for names in the middle of a sentence.
BRIEF = 60


def refuse_blocked(blockers: tuple[Check, ...]) -> None:
    """Raise PreflightError where something forbids to go on; the first one gives the code."""
    if not blockers:
        return
    rows = [f"{row.host or 'cluster'}: {row.name}: {row.detail} ({row.code})" for row in blockers]
    raise PreflightError(
        str(blockers[0].code),
        rows[0] if len(rows) == 1 else f"{len(rows)} findings forbid to go on",
        blockers=blockers,
        host=blockers[0].host,
        evidence=told((row.host or "cluster", f"{row.name}: {row.detail} ({row.code})") for row in blockers)
        if len(rows) > 1
        else (),
        fix="\n".join(dict.fromkeys(row.fix for row in blockers if row.fix)) or None,
    )


def refuse_unreachable(probed: Probed) -> None:
    """Raise where a host did not answer: nothing is begun on a part of the cluster."""
    if probed.failures:
        raise unreachable(list(probed.failures.values()), len(probed.hosts))


def told(rows: Iterable[tuple[str, str]]) -> list[str]:
    """What is said of hosts, a line each; hosts of which the same is said stand together, all by name."""
    return [f"{spoken(hosts, None)}: {text}" for hosts, text in alike(rows)]


def unreachable(failures: list[Failure], of: int, begun: str = "nothing was begun on any host") -> R1Error:
    """One error for all hosts that did not answer, each with its cause and its fix.

    In: how many hosts were asked; what became of the others. Where all of them let us in but sudo does not, it is
    preflight that refuses.
    """
    rows = told((row.host, f"{row.message} ({row.code})") for row in failures)
    fixes = told((row.host, row.fix) for row in failures if row.fix)
    evidence = told((row.host, line) for row in failures for line in row.evidence[-3:])
    first = failures[0]
    kind = PreflightError if all(row.code.startswith("SUDO_") for row in failures) else UnreachableError
    return kind(
        first.code,
        f"{rows[0]}; {begun}" if len(failures) == 1 else "\n".join([f"{len(failures)} of {of} hosts; {begun}", *rows]),
        host=first.host,
        evidence=evidence,
        fix="\n".join(fixes) or None,
    )


def named_hosts(view: View, wanted: str | None) -> list[Host]:
    """The hosts of a text such as ``node[02-04],node09``, in the inventory's order; None: all. Raises UsageError."""
    hosts = view.desired.hosts
    if wanted is None:
        return list(hosts)
    names = [wanted] if any(host.name == wanted for host in hosts) else meant(wanted)
    unknown = set(names) - {host.name for host in hosts}
    if unknown or not names:
        which = "host" if len(names) < 2 else f"host {brief(sorted(unknown), BRIEF)}"
        fix = f"hosts are: {spoken((host.name for host in hosts), None)}"
        raise UsageError("LIMIT_EMPTY", f"--host {wanted}: no such {which}", fix=fix)
    return [host for host in hosts if host.name in names]


def hosts_of(view: View, wanted: str | None) -> list[Host]:
    """The named hosts, or all of them; every one has to answer. Raises UsageError LIMIT_EMPTY, UnreachableError."""
    hosts = named_hosts(view, wanted)
    failures = [view.probed.failures[one.name] for one in hosts if one.name in view.probed.failures]
    if failures:
        raise unreachable(failures, len(hosts))
    return hosts


def container_of(view: View, host: Host) -> str:
    """The active container of a host, else the one that bootstrap prepared. Raises PreflightError CONTAINER_MISSING."""
    seen = view.probed.observed[host.name]
    settings = view.desired.settings
    active = seen.container_named(settings.container.name)
    for row in (active, seen.container_of(settings.cluster, view.desired.release.id)):
        if row is not None and row.cluster == settings.cluster and row.running:
            return row.name
    message = f"{host.name}: no container of the cluster {settings.cluster} runs there"
    raise PreflightError("CONTAINER_MISSING", message, host=host.name, fix="r1deploy bootstrap")
