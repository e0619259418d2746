"""The plan: (desired, observed) → changes, blockers and the reasons why the rest has nothing to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from r1deploy.planning.changes import Change, Noop, Unknown
from r1deploy.planning.checks import check_all
from r1deploy.planning.desired import Desired
from r1deploy.planning.diagcheck import verified
from r1deploy.planning.disturbing import busy
from r1deploy.planning.findings import Check
from r1deploy.planning.observed import Observed
from r1deploy.planning.steplooks import Look
from r1deploy.planning.steps import STEPS
from r1deploy.planning.whatserves import Serving


@dataclass(frozen=True)
class Plan:
    """What would change, what forbids it, and why the rest stays; and what serves meanwhile."""

    changes: tuple[Change, ...]
    noops: tuple[Noop, ...]
    checks: tuple[Check, ...]
    serving: Serving

    def blockers(self, verb: str) -> tuple[Check, ...]:
        """Failed checks that forbid a verb."""
        return tuple(check for check in self.checks if not check.ok and verb in check.blocks)

    def hosts_of(self, step: str) -> tuple[str, ...]:
        """Hosts on which a step has work, in the order of the inventory."""
        return tuple(dict.fromkeys(change.host for change in self.changes if change.step == step))

    def unknown(self, step: str, host: str) -> bool:
        """Whether nobody can say what a step has to do on a host."""
        return any(not row.known for row in self.noops if (row.step, row.host) == (step, host))


def plan(desired: Desired, observed: Mapping[str, Observed]) -> Plan:
    """Compare what is wanted with what was found.

    In: the desired state; what the probe found, by host name. Hosts that did not
    answer are left out by the caller, which says so itself.
    Out: changes in the order of steps, then of hosts.
    """
    rows: list[Change] = []
    noops: list[Noop] = []
    look = Look(desired, observed)
    for step in STEPS:
        for host in desired.hosts:
            if host.name not in observed:
                continue
            yielded = list(getattr(look, step)(host, observed[host.name]))
            rows += [Change(step, host.name, *row) for row in yielded if isinstance(row, tuple)]
            said = [row for row in yielded if isinstance(row, str)]
            noops += [Noop(step, host.name, row, not isinstance(row, Unknown)) for row in said]
    checks = (*check_all(desired, observed), *busy(look, rows), *verified(look))
    return Plan(tuple(rows), tuple(noops), checks, look.serving)
