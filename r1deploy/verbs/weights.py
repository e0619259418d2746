"""The checkpoint on the hosts: look, hash, bring to the hosts that lack it, pull from a hub."""

from __future__ import annotations

from dataclasses import dataclass

from r1deploy.checkpoint.copies import Order, copies, host_named, open_hosts, where
from r1deploy.checkpoint.hubpackage import client, name_of
from r1deploy.checkpoint.judging import differing, judge, manifest_of, prove
from r1deploy.checkpoint.sending import (
    Sending,
    check_arrived,
    hidden,
    lacking,
    no_source,
    refuse_no_room,
    send,
    whole_copy,
)
from r1deploy.errors import PreflightError
from r1deploy.planning.clusterchecks import fitting
from r1deploy.planning.findings import Check
from r1deploy.run import Run
from r1deploy.units import size_of
from r1deploy.verbs.preflight import Findings, findings

WORKERS = 8


def verify(run: Run) -> Findings:
    """Every copy of the checkpoint: headers, sums where there is a manifest or another copy, memory of the chips."""
    wanted = manifest_of(run.settings)
    with open_hosts(run) as hosts:
        groups = copies(hosts)
        run.say("; ".join(f"one copy on {where(group)}" for group in groups))
        first = [group[0] for group in groups]
        answers = hosts.on_each(first, lambda host: prove(hosts, host, wanted, len(groups) > 1, run.bar))
        rows = [row for group in groups for row in judge(hosts.path, group, answers[group[0].name])]
        rows += differing(groups, answers)
        whole = [answer["weights"] for answer in answers.values() if answer["weights"]["shards"]]
        if whole:
            largest = max(whole, key=lambda row: int(row["bytes"]))
            rows.append(fitting(run.settings, largest["bytes"], largest["layers"]))
    return findings(rows)


@dataclass(frozen=True)
class Pushed:
    """What a push did: the host it read from, the hosts that got the checkpoint, those that see the source's."""

    source: str
    targets: tuple[str, ...]
    shared: tuple[str, ...]
    files: int
    bytes: int


def push(run: Run, source: str | None) -> Pushed:
    """Bring the checkpoint of one host to those that do not see it, from host to host, and prove what arrived.

    Raises PreflightError before anything is written: no whole copy, no room. ApplyError after.
    """
    wanted = manifest_of(run.settings)
    with open_hosts(run) as hosts:
        named = host_named(hosts, source)
        looks = hosts.on_each(hosts.all, lambda host: hosts.ask(host, "look"))
        good = [host for host in hosts.all if whole_copy(looks[host.name]["weights"])]
        chosen = named or next(iter(good), None)
        if chosen is None or chosen not in good:
            raise no_source(hosts, chosen, looks)
        groups = copies(hosts)
        own = next(group for group in groups if chosen in group)
        targets = tuple(group[0] for group in groups if group is not own)
        shared = tuple(host.name for host in own if host is not chosen)
        if not targets:
            return Pushed(chosen.name, (), shared, 0, 0)
        proven = prove(hosts, chosen, wanted, True, run.bar)
        for check in judge(hosts.path, [chosen], proven):
            if check.code:
                message = f"{chosen.name}: {check.detail}"
                raise PreflightError(check.code, message, host=chosen.name, fix=check.fix)
        sizes = {name: int(size) for name, size in looks[chosen.name]["sizes"].items() if not hidden(name)}
        refuse_no_room(hosts.path, targets, sizes, looks)
        left = lacking(hosts, targets, sizes, looks, proven["sums"])
        if left:
            run.say(f"from {chosen.name} to {where(left)}: {size_of(sum(sizes.values()))}")
            sending = Sending(hosts, chosen, left)
            send(sending)
            check_arrived(sending, proven["sums"])
        names = tuple(host.name for host in targets)
        return Pushed(chosen.name, names, shared, len(proven["sums"]), sum(sizes.values()))


@dataclass(frozen=True)
class Pulled:
    """What a pull did; ``downloaded`` are the bytes that were not there yet."""

    host: str
    revision: str | None
    files: int
    bytes: int
    downloaded: int
    findings: Findings


def pull(run: Run, name: str | None) -> Pulled:
    """Download the checkpoint on one host with the hub's own client, resumable, and verify it there.

    Raises ApplyError, PreflightError.
    """
    wanted, weights = manifest_of(run.settings), run.settings.weights
    with open_hosts(run) as hosts:
        host = host_named(hosts, name) or hosts.all[0]
        machine = hosts.probed.observed[host.name].host
        version = ".".join(machine.python.split(".")[:2])
        place = run.layout.hub_client(name_of(weights.hub, version, machine.arch))
        payload = b""
        if not hosts.ask(host, "look", client=place)["client"]:
            payload = client(weights.hub, version, machine.arch, run.say)
        run.say(f"{host.name}: {weights.repo} from {weights.hub} to {hosts.path}")
        request = {
            "client_bytes": len(payload),
            "client": place,
            "hub": weights.hub,
            "repo": weights.repo,
            "revision": weights.revision,
            "env": dict(weights.env),
            "workers": WORKERS,
        }
        answer = hosts.do(host, Order("pull", request, payload, run.bar))
        proven = prove(hosts, host, wanted, True, run.bar)
        checks: tuple[Check, ...] = tuple(judge(hosts.path, [host], proven))
    return Pulled(
        host.name, answer["revision"], answer["files"], answer["bytes"], answer["downloaded"], findings(checks)
    )
