"""All of preflight's findings as a pure function. One that fails is a blocker for the verbs it names."""

from __future__ import annotations

from collections.abc import Mapping

from r1deploy.planning.clusterchecks import ACROSS
from r1deploy.planning.desired import Desired
from r1deploy.planning.findings import Check
from r1deploy.planning.hostchecks import ALWAYS, BEFORE_A_START
from r1deploy.planning.observed import Observed


def check_all(desired: Desired, observed: Mapping[str, Observed]) -> list[Check]:
    """All findings, hosts in their order, then those across hosts.

    In: what is wanted; what was found on each host that answered.
    """
    serving = any(seen.processes.engines for seen in observed.values())
    looks = ALWAYS if serving else (*ALWAYS, *BEFORE_A_START)
    rows: list[Check] = []
    for host in desired.hosts:
        if host.name in observed:
            rows += [row.at(host.name) for look in looks for row in look(desired, host, observed[host.name])]
    for across in ACROSS:
        rows += across(desired, observed)
    return rows
