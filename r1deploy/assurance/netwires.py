"""``diag network`` between pairs of hosts: all of them listen, and reach each other in rounds."""

from __future__ import annotations

import functools
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1deploy.assurance.inside import Heard, Place, Work, work_on_host
from r1deploy.assurance.listeners import Listener
from r1deploy.assurance.wirejudge import Pair
from r1deploy.assurance.wirerows import ListeningRow, WireRow, wire_rows_in
from r1deploy.cluster.host import Host
from r1deploy.connection import Remote
from r1deploy.errors import R1Error
from r1deploy.modes import mode_of
from r1deploy.planning.interfaces import engine_nic
from r1deploy.planning.observed import Observed
from r1deploy.settings.model import Settings
from r1deploy.together import together

# Seconds of one pair, one way, all in all; what its start may take beside; with less than LEAST left none begins.
PAIR, START, LEAST = 8.0, 6.0, 2.0
# Seconds of a round where nothing is wrong.
ROUND = 4
# Seconds within which all listeners have ended when they are told to.
END = 10.0
# So many high ports, one of each part of these: Ray's workers and the collectives take any of them.
SAMPLE, LOWEST, HIGHEST = 5, 10_002, 60_999
Told = Callable[[str, str], None]


@dataclass(frozen=True)
class Site:
    """The hosts that take part, in their order, and all that is known of them by name.

    ``told`` takes a host and what it does now; it is called from several threads.
    """

    settings: Settings
    hosts: Sequence[Host]
    observed: Mapping[str, Observed]
    remotes: Mapping[str, Remote]
    places: Mapping[str, Place]
    told: Told

    def nic(self, name: str) -> str:
        """The interface that the engine will use on a host; "" where nobody knows."""
        seen = self.observed.get(name)
        return engine_nic(self.settings.env, seen.net.nic, seen.net.nics) if seen else ""


@dataclass(frozen=True)
class Wires:
    """What all hosts said, and what went wrong here. ``high_ports``: the sample; ``lost``: hosts that are gone."""

    rows: Mapping[str, Sequence[WireRow]]
    high_ports: Sequence[int]
    lost: frozenset[str]
    notes: Sequence[str]


def rounds(names: Sequence[str]) -> list[list[Pair]]:
    """Every pair both ways, each once; in no round is a host in two pairs. ``2 × (hosts - 1)`` rounds, or 2 more."""
    ring: list[str | None] = [*names, *([None] if len(names) % 2 else [])]
    half, found = len(ring) // 2, []
    for _ in ring[1:]:
        pairs = [(one, other) for one, other in zip(ring[:half], reversed(ring[half:]), strict=True) if one and other]
        found += [pairs, [(other, one) for one, other in pairs]]
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return [pairs for pairs in found if pairs]


def high_ports(seed: str, taken: Sequence[int]) -> list[int]:
    """A sample of high ports without those that are taken, the same for the same seed: spread over all of them."""
    chosen = random.Random(seed)
    width, held = (HIGHEST + 1 - LOWEST) // SAMPLE, set(taken)
    starts = range(LOWEST, LOWEST + SAMPLE * width, width)
    return [chosen.choice([port for port in range(start, start + width) if port not in held]) for start in starts]


def engine_ports(settings: Settings, hosts: int) -> list[int]:
    """The ports of the settings that the service will listen on, Ray's among them where it runs."""
    mode = mode_of(settings.service.mode)
    ray = [settings.service.ray_port] if mode.needs_ray(hosts) else []
    return list(dict.fromkeys([*mode.ports(settings).values(), *ray]))


def measure_wires(site: Site) -> Wires:
    """Every pair of hosts, both ways. A host that is lost has no rows, or fewer; the others go on."""
    at_work = _Measuring(site)
    try:
        at_work.listen()
        at_work.reach()
        at_work.end()
    finally:
        at_work.close()
    return at_work.wires()


class _Measuring:
    """Who listens, who is gone, and what was said so far."""

    def __init__(self, site: Site) -> None:
        self._site, self._token = site, secrets.token_hex(16)
        self._until = time.monotonic() + site.settings.diag.network_seconds
        self._hosts = {host.name: host for host in site.hosts}
        ports = engine_ports(site.settings, len(self._hosts))
        taken = [port for seen in site.observed.values() for port in seen.net.ports_taken]
        self._high = high_ports(self._token, [*taken, *ports])
        self._ports = [*ports, *self._high]
        self._listeners: dict[str, Listener] = {}
        self._lines: dict[str, list[str]] = {name: [] for name in self._hosts}
        self._gone: set[str] = set()  # nothing more is asked of these
        self._deaf: set[str] = set()  # these listened, and did so no longer before they were told to end
        self._notes: list[str] = []

    def _left(self) -> float:
        return self._until - time.monotonic()

    def _results(self, got: Mapping[str, object]) -> None:
        """Note the errors of hosts; these are gone."""
        for name, error in got.items():
            if isinstance(error, R1Error):
                self._gone.add(name)
                self._notes.append(error.message)

    def listen(self) -> None:
        """All hosts at once."""
        self._results(together({name: functools.partial(self._begin, name) for name in self._hosts}))

    def _begin(self, name: str) -> None:
        self._site.told(name, "listens")
        order = {
            "op": "listen",
            "token": self._token,
            "address": self._hosts[name].address,
            "ports": self._ports,
            "deadline": self._site.settings.diag.network_seconds + PAIR + START,
        }
        self._listeners[name] = Listener(self._site.remotes[name], order)
        self._listeners[name].begun()

    def _target(self, name: str) -> ListeningRow | None:
        """Where a host is reached; None where it does not listen."""
        listener = self._listeners.get(name)
        return listener.row if listener and listener.alive else None

    def reach(self) -> None:
        """All rounds, as far as the time goes."""
        plan = rounds(list(self._hosts))
        for number, pairs in enumerate(plan):
            if self._left() < LEAST:
                self._notes.append(
                    f"diag.network_seconds ({self._site.settings.diag.network_seconds}) were over after {number} "
                    f"of {len(plan)} rounds: a round takes some {ROUND} s, up to {PAIR + START:.0f} where a fault is"
                )
                return
            works = {}
            for one, other in pairs:
                target = self._target(other)
                if target and one not in self._gone:
                    works[one] = functools.partial(self._reach, one, other, target)
            self._results(together(works))

    def _reach(self, one: str, other: str, target: ListeningRow) -> None:
        self._site.told(one, f"reaches {other}")
        left = min(self._left(), PAIR + START)
        peer = {
            "name": other,
            "address": self._hosts[other].address,
            "ports": self._ports,
            "probe_port": target.probe_port,
        }
        order: dict[str, Any] = {
            "op": "reach",
            "token": self._token,
            "peers": [peer],
            "source": self._hosts[one].address,
            "interface": self._site.nic(one),
            "pair": min(PAIR, left),
        }
        # The lines are taken as they come: an error in the middle loses none.
        said: Heard = work_on_host(self._site.remotes[one], Work("wires", order, left), self._lines[one].append)
        if said.last:
            self._notes.append(f"{one} → {other}: {said.last}")

    def end(self) -> None:
        """Nobody listens any more, as far as a host can be told."""
        for listener in self._listeners.values():
            listener.end()
        over = time.monotonic() + END
        for name, listener in self._listeners.items():
            if not listener.ended_well(max(0.0, over - time.monotonic())):
                self._deaf.add(name)
                self._notes.append(f"{name}: it did not listen to the end: {listener.why or 'no answer'}")

    def close(self) -> None:
        """Close what is still open; after a signal, hosts may still begin."""
        for listener in list(self._listeners.values()):
            listener.close()

    def wires(self) -> Wires:
        """All rows. What did not listen to the end has no such row: what others said of its ports is no firewall's."""
        rows: dict[str, list[WireRow]] = {}
        for name in self._hosts:
            reached, refused = wire_rows_in(self._lines[name])
            listener = self._listeners.get(name)
            rows[name] = [*(listener.rows if listener and name not in self._deaf else []), *reached]
            if refused:
                self._notes.append(f"{name}: {refused} of its lines could not be read")
        return Wires(rows, self._high, frozenset(self._gone), list(dict.fromkeys(self._notes)))
