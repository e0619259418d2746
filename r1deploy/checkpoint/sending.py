"""The checkpoint from one host to others: what forbids it, the transfer itself, the proof that it arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r1deploy.checkpoint.copies import FIXES, REFUSALS, Answer, Hosts, joined
from r1deploy.checkpoint.judging import prove
from r1deploy.cluster.host import Host
from r1deploy.errors import ApplyError, PreflightError, R1Error
from r1deploy.fanout.bringing import Bringing, Files
from r1deploy.fanout.spreading import Told
from r1deploy.onhost.filelist import PARTIAL
from r1deploy.planning.layout import list_file
from r1deploy.planning.observed import Weights
from r1deploy.planning.shardfindings import damage, few
from r1deploy.sshprocess import SshProcess
from r1deploy.units import size_of


@dataclass(frozen=True)
class Sending:
    """One copy on its way from a host to many."""

    hosts: Hosts
    source: Host
    targets: tuple[Host, ...]


def whole_copy(seen: Answer) -> bool:
    """Whether headers and sizes of a copy are all right."""
    return bool(seen["shards"] and seen["config"] and not seen["missing"] and not seen["bad"])


def hidden(name: str) -> bool:
    """Caches and partial files; they are not sent."""
    return "/." in f"/{name}"


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


def refuse_no_room(path: str, targets: Sequence[Host], sizes: Mapping[str, int], looks: Mapping[str, Answer]) -> None:
    """Raise PreflightError DISK_FULL where what is still to come does not fit."""
    for host in targets:
        there = looks[host.name]["sizes"]
        need = sum(size for name, size in sizes.items() if there.get(name) != size)
        need -= sum(size for name, size in there.items() if name.rpartition("/")[2].startswith(PARTIAL))
        free = int(looks[host.name]["free"])
        if need > free:
            message = f"{host.name}: {size_of(need)} are to come, {size_of(free)} are free for {path}"
            raise PreflightError("DISK_FULL", message, host=host.name, fix=FIXES["DISK_FULL"])


def send(sending: Sending) -> None:
    """Bring what each target lacks, from host to host. Raises the first error, once all have ended."""
    hosts, layout = sending.hosts, sending.hosts.run.layout
    files = Files(
        "weights",
        hosts.path,
        ("",),
        list_file(hosts.settings.cluster, "weights"),
        skip=(".*",),
        follow=True,
        record=layout.weights_record,
        wrong="WEIGHTS_DAMAGED",
    )
    told = Told(hosts.run.say, hosts.run.bar, lambda: None)

    def way_to(host: Host) -> SshProcess:
        return hosts.run.context.way(hosts.probed, host.name)

    try:
        ended = Bringing(way_to, sending.source, files, told).run(sending.targets)
    except R1Error as error:
        raise ours(error) from None
    errors = {name: ours(error) for name, error in ended.items() if error is not None}
    if errors:
        raise joined(errors)


def lacking(
    hosts: Hosts,
    targets: Sequence[Host],
    sizes: Mapping[str, int],
    looks: Mapping[str, Answer],
    sums: Mapping[str, str],
) -> tuple[Host, ...]:
    """The targets that do not hold the same already: sizes first, then the sha256 of what has the right size."""
    there = {host.name: looks[host.name]["sizes"] for host in targets}
    same = [host for host in targets if all(there[host.name].get(name) == size for name, size in sizes.items())]
    answers = hosts.on_each(same, lambda host: prove(hosts, host, sums, True, hosts.run.bar))
    return tuple(host for host in targets if host not in same or wrong_in(answers[host.name]))


def ours(error: R1Error) -> R1Error:
    """An error of the relay as one of the weights: what has no cause of its own is a copy that failed."""
    code = "WEIGHTS_COPY_FAILED" if error.code == "STEP_FAILED" else error.code
    kind = PreflightError if code in REFUSALS else type(error)
    fix = error.fix or FIXES.get(code)
    return kind(code, error.message, host=error.host, evidence=error.evidence, fix=fix)


def check_arrived(sending: Sending, sums: Mapping[str, str]) -> None:
    """Compare the targets with the source once more; what was hashed as it arrived is not read again.

    Raises ApplyError WEIGHTS_DAMAGED.
    """
    hosts = sending.hosts
    answers = hosts.on_each(sending.targets, lambda host: prove(hosts, host, sums, True, hosts.run.bar))
    left = {name: wrong_in(answer) for name, answer in answers.items() if wrong_in(answer)}
    if left:
        rows = [f"{name}: {few(names)}" for name, names in left.items()]
        message = f"{rows[0]} arrived with other bytes than {sending.source.name} has"
        fix = "check memory and disk of that host"
        raise ApplyError("WEIGHTS_DAMAGED", message, host=next(iter(left)), evidence=rows[1:], fix=fix)


def wrong_in(answer: Answer) -> list[str]:
    """The files of a copy that are not right."""
    rows = [*answer["differ"], *answer["absent"], *answer["weights"]["missing"]]
    return rows + [name for name in answer["weights"]["bad"] if name not in rows]
