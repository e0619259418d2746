"""The condition that ``service.require_diag`` makes of a start: each part of ``diag`` was right for this release."""

from __future__ import annotations

from collections.abc import Iterator

from r1deploy.planning.diagrecord import lacking, standings
from r1deploy.planning.findings import SERVE, Check, failed, passed
from r1deploy.planning.steplooks import Look

DIAG_MISSING = "DIAG_MISSING"


def verified(look: Look) -> Iterator[Check]:
    """Whether the results on the hosts let the release start, where the settings ask for that.

    It is not asked of what lives already: no result could be had while it does, and it needs no start. A host without
    the release's container has nothing yet that could be verified.
    """
    desired = look.desired
    lives = look.serving.alive and look.serving.name == desired.name
    if not desired.settings.service.require_diag or lives:
        return
    kept = {name: seen.state.diag for name, seen in look.observed.items() if look.container_on(seen)}
    if not kept:
        return
    rows = standings(desired.release.id, [host.name for host in desired.hosts if host.name in kept], kept)
    faults = lacking(rows)
    if not faults:
        yield passed(
            "diag", f"nothing wrong with {', '.join(row.part for row in rows)} of release {desired.release.id}"
        )
        return
    engine = any(seen.processes.engines for seen in look.observed.values())
    fix = "r1deploy stop, then r1deploy diag" if engine else "r1deploy diag"
    yield failed(DIAG_MISSING, "diag", f"release {desired.release.id}: {'; '.join(faults)}", fix, SERVE)
