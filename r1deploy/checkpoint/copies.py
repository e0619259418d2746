"""The hosts with a connection to each, and the copies of the checkpoint that they see.

What reads and writes runs on the hosts: 671 GB never pass through the controller. Whether two hosts see one folder is
found out with a file of random content, since a share has many file systems and a path or a device number proves
nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from r1deploy.checkpoint.transferlines import row_of
from r1deploy.cluster.host import Host
from r1deploy.connection import Remote
from r1deploy.errors import ApplyError, ConfigError, PreflightError, R1Error, UsageError
from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.probing import Probed, probe
from r1deploy.run import Run
from r1deploy.session import Lines, Session, answer_in
from r1deploy.settings.model import Settings
from r1deploy.settings.volumes import weights_host_path
from r1deploy.signals import Stopped
from r1deploy.voice import Progress

Answer = dict[str, Any]
FIXES = {
    "DISK_FULL": "df -h on the host; free space there, or set engine.model and container.volumes to a larger disk",
    "WEIGHTS_BUSY": "wait for the other run, or see on the host what writes there",
    "PEER_UNREACHABLE": "open all TCP ports between the hosts' addresses: Ray needs them too",
    "HUB_AUTH": "set HF_TOKEN (or MODELSCOPE_API_TOKEN) in the environment as R1DEPLOY_WEIGHTS__ENV__…, or weights.env",
    "HUB_MISSING": "check weights.hub, weights.repo and weights.revision",
    "HUB_NO_ROUTE": "set HTTPS_PROXY or HF_ENDPOINT in weights.env, and run it again: it goes on where it ended",
    "HUB_TLS": "set REQUESTS_CA_BUNDLE and SSL_CERT_FILE in weights.env to a file on the host",
    "HUB_FAILED": "run it again: it goes on where it ended",
    "WEIGHTS_COPY_FAILED": "run it again: it goes on where it ended",
    "MANIFEST_INVALID": "where the checkpoint is good, in its folder: sha256sum *.json *.safetensors > SHA256SUMS",
}
REFUSALS = {"WEIGHTS_BUSY", "MANIFEST_INVALID"}


@dataclass(frozen=True)
class Order:
    """One thing to do on a host: its name, what it is given, and who hears of it.

    ``payload`` follows the order; ``progress`` is told how far it is.
    """

    op: str
    request: Mapping[str, Any] = field(default_factory=dict)
    payload: bytes = b""
    progress: Progress | None = None


@dataclass
class Hosts:
    """The hosts of the cluster with a connection to each."""

    run: Run
    probed: Probed
    path: str
    remotes: dict[str, Remote] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The merged settings."""
        return self.run.settings

    @property
    def all(self) -> tuple[Host, ...]:
        """Hosts in the inventory's order."""
        return self.probed.hosts

    def ask(self, host: Host, op: str, **request: Any) -> Answer:
        """Do one short thing on a host and return its answer. Raises as ``do``."""
        return self.do(host, Order(op, request))

    def do(self, host: Host, order: Order) -> Answer:
        """Do one thing on a host and return its answer. Raises PreflightError, ApplyError, UnreachableError."""
        last: Answer = {}

        def take(line: str) -> None:
            row = row_of(order.op, answer_in(line))
            if row is None or row["kind"] == "note":
                return
            if row["kind"] == "progress":
                if order.progress:
                    order.progress(host.name, row["done"], row["total"])
            else:
                last.clear()
                last.update(row)

        def feed(session: Session) -> None:
            session.send(order.payload)
            session.finish_input()

        request = {"op": order.op, "path": self.path, "record": self.run.layout.weights_record, **order.request}
        remote = self.remotes[host.name]
        code, said = remote.script("checkpointwork", request, Lines(take).write, feed=feed)
        if last.get("kind") == "error":
            raise refusal(host.name, last)
        if last.get("kind") != "done" or code != 0:
            raise remote.no_answer(f"weights: {order.op}", code, said)
        return last

    def on_each(self, hosts: Sequence[Host], do: Callable[[Host], Answer]) -> dict[str, Answer]:
        """Do something on many hosts at once; all of them end before the first error is raised."""
        with ThreadPoolExecutor(max(len(hosts), 1)) as pool:
            jobs: dict[str, Future[Answer]] = {host.name: pool.submit(do, host) for host in hosts}
            try:
                errors = {name: error for name, job in jobs.items() if (error := job.exception()) is not None}
            except Stopped:
                self.close()
                raise
        if errors:
            raise joined(errors)
        return {name: job.result() for name, job in jobs.items()}

    def close(self) -> None:
        """Close the connections: what runs there ends within a second."""
        for remote in self.remotes.values():
            remote.close()


def refusal(host: str, row: Answer) -> R1Error:
    """An error that a host's script answered, as ours."""
    kind = PreflightError if row["code"] in REFUSALS else ApplyError
    code, fix = str(row["code"]), FIXES.get(str(row["code"]))
    return kind(code, f"{host}: {row['message']}", host=host, evidence=row["tail"], fix=fix)


def joined(errors: Mapping[str, BaseException]) -> BaseException:
    """The first error; the others stand in its evidence."""
    first, *others = errors.values()
    if isinstance(first, R1Error):
        first.evidence = (*first.evidence, *(str(error) for error in others))
    return first


@contextmanager
def open_hosts(run: Run) -> Iterator[Hosts]:
    """Connections to all hosts. Raises UnreachableError; ConfigError where no volume holds the checkpoint."""
    path = weights_host_path(run.settings)
    if path is None:
        raise ConfigError("SETTINGS_VALUE", "engine.model lies in no volume of the container", fix="container.volumes")
    probed = probe(run.context.target, run.settings)
    refuse_unreachable(probed)
    hosts = Hosts(run, probed, path)
    try:
        for host in probed.hosts:
            hosts.remotes[host.name] = run.context.remote(probed, host.name)
        yield hosts
    except Stopped as stop:
        stop.goes_on, stop.fix = "what is whole stays", "run the same command again: it goes on where it ended"
        raise
    finally:
        hosts.close()


def copies(hosts: Hosts) -> list[list[Host]]:
    """The hosts by the copy of the folder that they see: those of a share are together, in their order."""
    left, groups = list(hosts.all), []
    while left:
        group = sharers(hosts, left[0], left[1:])
        groups.append(group)
        left = [host for host in left if host not in group]
    return groups


def sharers(hosts: Hosts, first: Host, others: Sequence[Host]) -> list[Host]:
    """A host and those that see its folder; where it may not write there, it counts as alone."""
    if not others:
        return [first]
    token, secret = secrets.token_hex(8), secrets.token_hex(16)
    place = hosts.ask(first, "mark", token=token, content=secret)["marked"]
    if place is None:
        return [first]
    try:
        look = hosts.on_each(others, lambda host: hosts.ask(host, "seen", marked=place, content=secret))
    finally:
        hosts.ask(first, "unmark", marked=place)
    return [first, *(host for host in others if look[host.name]["seen"])]


def where(group: Sequence[Host]) -> str | None:
    """A copy's hosts in words: None stands for the cluster."""
    return ", ".join(host.name for host in group)


def host_named(hosts: Hosts, name: str | None) -> Host | None:
    """A host by its inventory name; None for None. Raises UsageError."""
    if name is None:
        return None
    for host in hosts.all:
        if host.name == name:
            return host
    known = ", ".join(host.name for host in hosts.all)
    raise UsageError("LIMIT_EMPTY", f"{name}: no such host", fix=f"hosts are: {known}")
