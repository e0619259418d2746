"""The checkpoint from one host to others: what forbids it, the transfer itself, the proof that it arrived."""

from __future__ import annotations

import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from r1deploy.checkpoint.copies import FIXES, Answer, Hosts, Order
from r1deploy.checkpoint.judging import prove
from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, PreflightError, R1Error
from r1deploy.planning.observed import Weights
from r1deploy.planning.shardfindings import damage, few
from r1deploy.units import size_of


@dataclass(frozen=True)
class Sending:
    """One copy on its way from a host to many. ``sizes``: bytes by the name of each file."""

    hosts: Hosts
    source: Host
    targets: tuple[Host, ...]
    sizes: Mapping[str, int]


def whole_copy(seen: Answer) -> bool:
    """Whether headers and sizes of a copy are all right."""
    return bool(seen["shards"] and seen["config"] and not seen["missing"] and not seen["bad"])


def hidden(name: str) -> bool:
    """Caches and partial files at the top of the folder; they are not sent."""
    return name.startswith(".") or "/.r1deploy-partial/" in f"/{name}"


def no_source(hosts: Hosts, chosen: Host | None, looks: Mapping[str, Answer]) -> PreflightError:
    """No host has a whole checkpoint, or the one that was named has not."""
    rows = []
    for host in [chosen] if chosen else hosts.all:
        seen = looks[host.name]["weights"]
        what = damage(Weights.model_validate(seen)) if seen["exists"] and seen["shards"] else "no checkpoint"
        rows.append(f"{host.name}: {what or 'no config.json'}")
    code = "WEIGHTS_DAMAGED" if any(looks[host.name]["weights"]["shards"] for host in hosts.all) else "WEIGHTS_MISSING"
    fix = "r1deploy weights pull" if chosen is None else "name another host, or: r1deploy weights pull"
    return PreflightError(code, f"{hosts.path} is whole on no host: {rows[0]}", evidence=rows[1:], fix=fix)


def refuse_no_rsync(hosts: Sequence[Host], looks: Mapping[str, Answer]) -> None:
    """Raise PreflightError TOOLS_MISSING where a host has no rsync."""
    for host in hosts:
        if not looks[host.name]["rsync"]:
            message = f"{host.name}: rsync is not installed"
            raise PreflightError("TOOLS_MISSING", message, host=host.name, fix="apt-get install rsync")


def refuse_no_room(path: str, targets: Sequence[Host], sizes: Mapping[str, int], looks: Mapping[str, Answer]) -> None:
    """Raise PreflightError DISK_FULL where what is still to come does not fit."""
    for host in targets:
        there = looks[host.name]["sizes"]
        need = sum(size for name, size in sizes.items() if there.get(name) != size)
        free = int(looks[host.name]["free"])
        if need > free:
            message = f"{host.name}: {size_of(need)} are to come, {size_of(free)} are free for {path}"
            raise PreflightError("DISK_FULL", message, host=host.name, fix=FIXES["DISK_FULL"])


def send(sending: Sending, names: Mapping[str, Sequence[str]] | None = None) -> None:
    """Bring the files. In: by host, the names to send again whatever their size says."""
    hosts, source = sending.hosts, sending.source
    password, ready = secrets.token_hex(24), threading.Event()
    offers: list[Answer] = []
    errors: list[BaseException] = []

    def opened(row: Answer) -> None:
        offers.append(row)
        ready.set()

    def offer() -> None:
        allowed = [host.address for host in sending.targets]
        request = {"password": password, "allowed": allowed, "address": source.address}
        try:
            hosts.do(source, Order("offer", request, ready=opened))
        except (R1Error, OSError) as error:
            errors.append(error)
        finally:
            ready.set()

    def fetch(host: Host) -> Answer:
        request = {
            "address": source.address,
            "port": int(offers[0]["port"]),
            "password": password,
            "sizes": dict(sending.sizes),
            "names": list((names or {}).get(host.name, ())),
        }
        return hosts.do(host, Order("fetch", request, progress=hosts.run.bar))

    # A connection of its own: closing it ends the offer, and nothing else.
    kept = hosts.remotes[source.name]
    hosts.remotes[source.name] = hosts.remote(source)
    thread = threading.Thread(target=offer, daemon=True)
    try:
        thread.start()
        ready.wait()
        if not offers:
            raise errors[0]
        hosts.on_each(sending.targets, fetch)
    finally:
        hosts.remotes[source.name].close()
        hosts.remotes[source.name] = kept
        thread.join(10)
        broken = sys.exc_info()[0] is not None
        # Closing only tells it to end: done is what is gone.
        with suppress(R1Error) if broken else nullcontext():
            for row in offers:
                hosts.ask(source, "ended", process=str(row["process"]))


def check_arrived(sending: Sending, sums: Mapping[str, str]) -> int:
    """Hash at the targets; files that had the right size and time and other bytes are sent once more.

    Returns the number of files that were verified. Raises ApplyError WEIGHTS_DAMAGED.
    """
    left = wrong_at(sending, sums)
    if left:
        again = tuple(host for host in sending.targets if host.name in left)
        send(Sending(sending.hosts, sending.source, again, sending.sizes), left)
        left = wrong_at(sending, sums)
    if left:
        rows = [f"{name}: {few(names)}" for name, names in left.items()]
        message = f"{rows[0]} arrived with other bytes than {sending.source.name} has"
        fix = "check memory and disk of that host"
        raise ApplyError("WEIGHTS_DAMAGED", message, host=next(iter(left)), evidence=rows[1:], fix=fix)
    return len(sums)


def wrong_at(sending: Sending, sums: Mapping[str, str]) -> dict[str, list[str]]:
    """The files that are not right, by target."""
    hosts = sending.hosts
    answers = hosts.on_each(sending.targets, lambda host: prove(hosts, host, sums, True, hosts.run.bar))
    rows = {}
    for host in sending.targets:
        answer = answers[host.name]
        rows[host.name] = [*answer["differ"], *answer["absent"], *answer["weights"]["missing"]]
        rows[host.name] += [name for name in answer["weights"]["bad"] if name not in rows[host.name]]
    return {name: names for name, names in rows.items() if names}
