"""What serves, by one notion for serve, status and plan: what is active, and what of it is not there.

It serves where every host of the active record has its container running (not paused) with its node of Ray in it,
and the engine lives on the head. Whether it answers with a token is asked beside this, at the record's own port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from r1deploy.modes import mode_of
from r1deploy.planning.observed import Container, Observed
from r1deploy.planning.recorded import Active, Record


@dataclass(frozen=True)
class Problem:
    """Something of the service that is not as it has to be, on one host."""

    host: str
    text: str


@dataclass(frozen=True)
class Serving:
    """The service as it was found.

    ``active`` None: nothing is active. ``record`` None: the record of what is active cannot be read.
    ``problems`` hold the service down, ``unrecorded`` hosts only lack the right active.json, of ``unknown``
    hosts nothing is known. ``health`` is what /health of the record's port said; ``alive``: something of it runs.
    """

    active: Active | None
    record: Record | None
    problems: tuple[Problem, ...] = ()
    unrecorded: tuple[Problem, ...] = ()
    unknown: tuple[str, ...] = ()
    health: int | None = None
    alive: bool = False

    @property
    def name(self) -> str:
        """``release/config`` of what is active."""
        return f"{self.active.release}/{self.active.config}" if self.active else "none"

    @property
    def stopped(self) -> bool:
        """Whether nothing of it runs: no engine, no Ray."""
        return bool(self.problems) and not self.alive

    @property
    def whole(self) -> bool:
        """Whether all that makes up the service is known to be there."""
        return self.record is not None and not self.problems and not self.unknown

    @property
    def serves(self) -> bool | None:
        """Whether it serves, as far as one can tell without a token; None where that is not known."""
        if self.active is None or self.record is None or self.problems:
            return False if self.active or not self.unknown else None
        return None if self.unknown else self.health == 200

    def is_(self, record: Record) -> bool:
        """Whether a record is the active one."""
        active = self.active
        return active is not None and (active.release, active.config) == (record.release, record.config)


def serving(cluster: str, hosts: tuple[str, ...], observed: Mapping[str, Observed]) -> Serving:
    """What serves. In: the cluster's name; its hosts, head first; what was found, by host name."""
    silent = tuple(name for name in hosts if name not in observed)
    active, source = active_of(hosts, observed)
    if active is None or source is None:
        return Serving(None, None, unknown=silent)
    record = record_of(active, observed[source])
    if record is None:
        return Serving(active, None, (Problem(source, f"the record of {active.release}/{active.config} is gone"),))
    names = tuple(host.name for host in record.hosts)
    head = observed.get(names[0])
    return Serving(
        active,
        record,
        tuple(problems(cluster, record, observed)),
        tuple(unrecorded(active, source, names, observed)),
        tuple(name for name in names if name not in observed),
        head.service.health if head and head.service.port == record.port else None,
        any(pids_in(seen, record.container) for seen in observed.values()),
    )


def active_of(hosts: tuple[str, ...], observed: Mapping[str, Observed]) -> tuple[Active | None, str | None]:
    """What is active, and the host that says so: the head, or the first host that knows where the head does not."""
    for name in hosts:
        seen = observed.get(name)
        if seen is not None and seen.state.active is not None:
            return seen.state.active, name
    return None, None


def record_of(active: Active, seen: Observed) -> Record | None:
    """The record of what is active, as a host has it."""
    state = seen.state.releases.get(active.release)
    return state.records.get(active.config) if state else None


def unrecorded(
    active: Active, source: str, names: tuple[str, ...], observed: Mapping[str, Observed]
) -> Iterator[Problem]:
    """Hosts of the record whose active.json is missing, or proven for something else.

    What has not passed its gate, here or there, is a switch that did not end: the next serve ends it.
    """
    if not active.proven:
        return
    for name in names:
        seen = observed.get(name)
        if seen is None or name == source:
            continue
        has = seen.state.active
        if has is None:
            yield Problem(name, "absent")
        elif has.proven and (has.release, has.config) != (active.release, active.config):
            yield Problem(name, f"names {has.release}/{has.config}")


def needs_ray(record: Record) -> bool:
    """Whether the service has a node of Ray on every host."""
    return mode_of(record.mode).needs_ray(len(record.hosts))


def problems(cluster: str, record: Record, observed: Mapping[str, Observed]) -> Iterator[Problem]:
    """What holds the service of a record down, on the hosts that answered."""
    ray: dict[str, str | None] = {}
    for host in record.hosts:
        seen = observed.get(host.name)
        if seen is None:
            continue
        container = seen.container_named(record.container)
        wrong = standing(cluster, record, container)
        if wrong:
            yield Problem(host.name, wrong)
            continue
        nodes = [row.gcs for row in seen.processes.raylets if row.container == record.container]
        if nodes:
            ray[host.name] = nodes[0]
        elif needs_ray(record):
            yield Problem(host.name, f"no node of Ray in {record.container}")
        if host == record.hosts[0] and not engines_in(seen, record.container):
            yield Problem(host.name, f"no engine in {record.container}")
    head = ray.get(record.hosts[0].name)
    for name, gcs in ray.items():
        if head and gcs and needs_ray(record) and gcs != head:
            yield Problem(name, f"its node is in the Ray of {gcs}, the head's in that of {head}")


def standing(cluster: str, record: Record, container: Container | None) -> str | None:
    """What is wrong with a container of the service; None: it runs."""
    if container is None or container.cluster != cluster or container.release != record.release:
        return f"{record.container} is not the container of release {record.release}"
    if container.paused:
        return f"{container.name} is paused"
    return None if container.running else f"{container.name} is stopped"


def engines_in(seen: Observed, container: str) -> bool:
    """Whether an engine lives in a container."""
    return any(row.container == container for row in seen.processes.engines)


def pids_in(seen: Observed, container: str) -> list[int]:
    """Processes of the engine and of Ray in a container."""
    engines = [row.pid for row in seen.processes.engines if row.container == container]
    return engines + [row.pid for row in seen.processes.raylets if row.container == container]


def in_use(seen: Observed) -> dict[str, tuple[str, int]]:
    """Trees that a running service of a host needs: tree → the container that serves from it, and a pid in it."""
    trees: dict[str, tuple[str, int]] = {}
    for row in seen.containers:
        pids = pids_in(seen, row.name)
        state = seen.state.releases.get(row.release or "")
        for record in state.records.values() if state and pids else ():
            trees |= dict.fromkeys(record.trees if record else (), (row.name, pids[0]))
    return trees
