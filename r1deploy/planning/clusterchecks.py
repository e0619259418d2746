"""Preflight's findings across hosts; pure functions."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from r1deploy.cluster.host import Host
from r1deploy.cluster.ranges import FEWEST
from r1deploy.modes import mode_of
from r1deploy.modes.base import MODES
from r1deploy.planning.desired import Desired
from r1deploy.planning.exposure import exposure
from r1deploy.planning.findings import BOTH, SERVE, Check, failed, passed
from r1deploy.planning.observed import Observed
from r1deploy.planning.shardfindings import fits
from r1deploy.settings.model import Settings

CLOCK_SKEW_SECONDS = 30
SAME_SLOTS = "give each host the same slots"
FIT = "set engine.tensor_parallel_size and engine.pipeline_parallel_size to fit"


def topology(desired: Desired, _: Mapping[str, Observed]) -> Iterator[Check]:
    """tp × pp is the number of chips, and a tensor group fits in a host."""
    tp = desired.settings.engine.tensor_parallel_size
    pp = desired.settings.engine.pipeline_parallel_size
    total = sum(host.slots for host in desired.hosts)
    smallest = min(desired.hosts, key=lambda host: host.slots)
    said = f"tp {tp} × pp {pp} = {tp * pp}, chips {sum_of(desired.hosts)} = {total}"
    mode = mode_of(desired.settings.service.mode)
    if mode.most_hosts is not None and len(desired.hosts) > mode.most_hosts:
        most = "one host" if mode.most_hosts == 1 else f"{mode.most_hosts} hosts"
        many = f"service.mode {mode.name} serves on {most}, the inventory has {len(desired.hosts)}"
        others = [row.name for row in MODES.values() if row.most_hosts is None]
        fix = f"set service.mode to {' or '.join(others)}, or name {most} only"
        yield failed("TOPOLOGY", "topology", many, fix)
    elif tp * pp != total:
        yield failed("TOPOLOGY", "topology", said, FIT)
    elif tp > smallest.slots:
        yield failed("TOPOLOGY", "topology", f"tp {tp} > {smallest.slots} chips of {smallest.name}", FIT)
    elif len({host.slots for host in desired.hosts}) > 1:
        yield failed("TOPOLOGY", "topology", f"uneven hosts: {said}", SAME_SLOTS)
    else:
        yield passed("topology", said)


def sum_of(hosts: Sequence[Host]) -> str:
    """The chips of all hosts as a sum: ``2 + 2``; of many hosts ``16 × 63 + 8``, the number of chips first."""
    if len(hosts) < FEWEST:
        return " + ".join(str(host.slots) for host in hosts)
    counts = Counter(host.slots for host in hosts)
    return " + ".join(f"{slots} × {count}" if count > 1 else str(slots) for slots, count in counts.items())


def memory_fits(desired: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """The checkpoint over tensor and pipeline ranks against the memory the engine may take of one chip."""
    copies = [host.weights for host in observed.values() if host.weights and host.weights.exists]
    if copies:
        largest = max(copies, key=lambda weights: weights.bytes)
        yield fitting(desired.settings, largest.bytes, largest.layers)


def fitting(settings: Settings, size: int, layers: int | None) -> Check:
    """Whether a checkpoint fits into the chips' memory. In: its bytes; its layers, where they are known."""
    ok, said = fits(settings, size, layers)
    if ok:
        return passed("weights fit", said)
    return failed("WEIGHTS_TOO_LARGE", "weights fit", said, "more chips, or a smaller checkpoint")


def odd_one_out(
    code: str, name: str, values: Mapping[str, str | None], fix: str, blocks: frozenset[str] = BOTH
) -> Iterator[Check]:
    """A value that all hosts should share; the hosts that differ from the most common one are named."""
    if len(values) < 2:
        return
    common, _ = Counter(values.values()).most_common(1)[0]
    odd = {host: value for host, value in values.items() if value != common}
    for host, value in odd.items():
        yield failed(code, name, f"{value}, the others have {common}", fix, blocks).at(host)
    if not odd:
        yield passed(name, f"{common} on all hosts")


def drivers(_: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """One driver version over the cluster."""
    values = {host: seen.chips.driver for host, seen in observed.items() if seen.chips.driver}
    yield from odd_one_out("DRIVER_DIFFERS", "driver", values, "install the same driver on all hosts")


def same_weights(_: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """The same checkpoint on all hosts: by headers and sizes, by its bytes where all hosts have them verified."""
    there = {host: seen.weights for host, seen in observed.items() if seen.weights and seen.weights.exists}
    fix = "r1deploy weights verify names the files; r1deploy weights push brings those of a good host"
    contents = {host: weights.content[:12] for host, weights in there.items() if weights.content}
    sums = {host: weights.sum for host, weights in there.items()}
    equal = len(set(sums.values())) == 1
    values = contents if equal and len(contents) == len(there) else sums
    yield from odd_one_out("WEIGHTS_DIFFER", "same weights", values, fix, SERVE)


def clocks(_: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """No clock far from the median host's; the probes of one run are a few seconds apart."""
    times = {host: seen.host.time for host, seen in observed.items()}
    if len(times) < 2:
        return
    # The low median is a host's own clock: the middle between two hosts would hide half of their distance.
    median = statistics.median_low(times.values())
    far = {host: time - median for host, time in times.items() if abs(time - median) > CLOCK_SKEW_SECONDS}
    for host, skew in far.items():
        yield failed("CLOCK_SKEW", "clock", f"{skew:+.0f} s from the median", "chronyc makestep").at(host)
    if not far:
        yield passed("clock", f"all within {CLOCK_SKEW_SECONDS} s")


def identities(_: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """Each host is a machine of its own: cloned disks share machine-ids and names."""
    for host, twins, identity in twice({host: seen.host.machine_id for host, seen in observed.items()}):
        # Without the second file: systemd would take the id from there again.
        fix = "rm -f /etc/machine-id /var/lib/dbus/machine-id && systemd-machine-id-setup"
        yield failed("IDENTITY_TWICE", "identity", f"machine-id {identity} on {twins}", fix).at(host)
    for host, twins, identity in twice({host: seen.host.hostname for host, seen in observed.items()}):
        fix = f"hostnamectl hostname {host}"
        yield failed("IDENTITY_TWICE", "identity", f"hostname {identity} on {twins}", fix).at(host)


def twice(values: Mapping[str, str | None]) -> Iterator[tuple[str, str, str]]:
    """Values that more than one host has: the last of these hosts, all of them in words, the value."""
    owners: dict[str, list[str]] = {}
    for host, value in values.items():
        if value:
            owners.setdefault(value, []).append(host)
    for value, hosts in owners.items():
        if len(hosts) > 1:
            yield hosts[-1], ", ".join(hosts), value


ACROSS: tuple[Callable[[Desired, Mapping[str, Observed]], Iterable[Check]], ...] = (
    topology,
    memory_fits,
    drivers,
    same_weights,
    clocks,
    identities,
    exposure,
)
