"""What a start rests on and where each value comes from: serve mode, tp and pp, each host's address, chips and NIC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from r1deploy.cluster.host import Host
from r1deploy.cluster.inventories import GROUP
from r1deploy.observe.context import Context
from r1deploy.observe.view import View
from r1deploy.planning.interfaces import AUTO
from r1deploy.settings.merge import Source

CLUSTER = ("service.mode", "engine.tensor_parallel_size", "engine.pipeline_parallel_size")
# Where Ansible's inventory may give the address, the strongest first.
ADDRESSES = ("r1_address", "ansible_host")
INTERFACE = "_SOCKET_IFNAME"


@dataclass(frozen=True)
class Choice:
    """One value and its origin; ``host`` is None where the whole cluster is meant."""

    name: str
    host: str | None
    value: str
    source: str


def choices(context: Context, view: View) -> list[Choice]:
    """The choices of the cluster, then those of each host that answered."""
    sources = context.loaded.sources
    rows = []
    for path in CLUSTER:
        section, name = path.split(".")
        value = str(getattr(getattr(context.settings, section), name))
        rows.append(Choice(path, None, value, said(sources[path])))
    if not view.probed.grouped:
        names = ", ".join(host.name for host in view.desired.hosts)
        rows.append(Choice("hosts", None, names, f"inventory: all of it, there is no group [{GROUP}]"))
    for host in view.desired.hosts:
        if host.name in view.probed.observed:
            rows += of_host(context, view, host)
    return rows


def of_host(context: Context, view: View, host: Host) -> Iterator[Choice]:
    """Address, chips and interfaces of one host."""
    sources, given = context.loaded.sources, view.probed.login.get(host.name, {})
    key = next((key for key in ADDRESSES if given.get(key)), "the host's name")
    yield Choice("address", host.name, host.address, f"inventory: {key}")
    slots = "inventory: slots" if given.get("slots") else said(sources["slots"])
    yield Choice("slots", host.name, str(host.slots), slots)
    nic = view.probed.observed[host.name].net.nic
    for name, value in context.settings.env.items():
        if name.endswith(INTERFACE):
            own = (nic or "none", f"NIC of {host.address}") if value == AUTO else (value, said(sources[f"env.{name}"]))
            yield Choice(name, host.name, *own)


def said(source: Source) -> str:
    """A source in words; a profile's place names its kind already."""
    return source.where if source.where.startswith(source.kind) else f"{source.kind} {source.where}"
