"""Limits on the lab's links: a token bucket (tc tbf) at every end, so that what crosses the network can be measured.

A host's link has two ends: its ``eth0`` holds back what it sends, its veth at the bridge what it gets. The controller's
is the bridge itself, which holds back what this machine sends to all hosts together; what comes in here is held back by
each sender's own end, since tbf works on what leaves a device.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1deploy.lab import hosts, places
from r1deploy.lab.laberrors import LabError

RATE = re.compile(r"(\d{1,9})([kmgt]?)bit")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BUCKET = ("burst", "64kb", "latency", "50ms")
INSIDE = "eth0"
# Of an exec that is over at once an older engine may lose what it printed.
TRIES = 3


@dataclass(frozen=True)
class Rate:
    """How much crosses a link in a second, in bits."""

    bits: int

    def __str__(self) -> str:
        """As tc takes it, in the largest unit that leaves a whole number: ``50mbit``."""
        unit = next(unit for unit in reversed(UNITS) if self.bits % UNITS[unit] == 0)
        return f"{self.bits // UNITS[unit]}{unit}bit"


@dataclass(frozen=True)
class Limits:
    """What is limited: ``all`` links and this machine's, and those of single hosts; None: no limit."""

    all: Rate | None = None
    own: Mapping[str, Rate] = field(default_factory=dict)

    def of(self, host: str) -> Rate | None:
        """A host's limit; its own goes before that of all."""
        return self.own.get(host, self.all)

    def words(self) -> list[str]:
        """As they are given: ``50mbit``, ``node2=10mbit``."""
        return [*([str(self.all)] if self.all else []), *(f"{host}={rate}" for host, rate in self.own.items())]


def parse(words: Sequence[str]) -> Limits:
    """Limits as a user gives them: RATE for all, HOST=RATE for one; the last one holds. Raises LabError."""
    everywhere, own = None, {}
    for word in words:
        host, equals, rate = word.rpartition("=")
        if equals:
            own[host] = rate_of(rate)
        else:
            everywhere = rate_of(rate)
    return Limits(everywhere, own)


def rate_of(text: str) -> Rate:
    """A rate as tc writes it, in bits: ``50mbit``, ``800kbit``, ``1gbit``. Raises LabError."""
    found = RATE.fullmatch(text.lower())
    if found is None or not int(found[1]):
        raise LabError(f"--link: {text} is no rate", "write it as tc does: 800kbit, 50mbit, 1gbit")
    return Rate(int(found[1]) * UNITS[found[2]])


def shaping(device: str, rate: Rate | None) -> str:
    """The shell command that limits what leaves a device; None: that takes the limit away, where there is one."""
    name = shlex.quote(device)
    if rate is None:
        return f"if tc qdisc show dev {name} root | grep -q ' tbf '; then tc qdisc del dev {name} root; fi"
    return shlex.join(["tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", str(rate), *BUCKET])


def inside(rate: Rate | None) -> str:
    """The script for a host: its own end; it prints the number of the other one, which is at the bridge."""
    return f"set -e; {shaping(INSIDE, rate)}; cat /sys/class/net/{INSIDE}/iflink"


def outside(bridge: str, rate: Rate | None, peers: Mapping[int, Rate | None]) -> str:
    """The script for this machine: the bridge, and the hosts' ends there. In: the number of each end, and its limit."""
    rows = ["set -e", shaping(bridge, rate)]
    for peer, own in peers.items():
        rows.append(f'device=$(basename "$(dirname "$(grep -lx {peer} /sys/class/net/*/ifindex)")")')
        rows.append(shaping("DEVICE", own).replace("DEVICE", '"$device"'))
    return "\n".join(rows)


def limit(client: Any, record: Path, limits: Limits) -> None:
    """Limit the links of the hosts that run, and this machine's to them.

    In: ``record``, the file that remembers the limits. Raises LabError, also where a host that is named is not there.
    """
    absent = sorted(limits.own.keys() - {host_of(container) for container in running(client)})
    if absent:
        raise LabError(f"--link: there is no host {', '.join(absent)}", "hosts are called node1, node2, …")
    record.write_text("\n".join(limits.words()) + "\n")
    shape(client, limits)


def lift(client: Any, record: Path) -> None:
    """Take the limits away; without a record there are none. Raises LabError."""
    if record.is_file():
        shape(client, Limits())
        record.unlink()


def again(client: Any, record: Path) -> None:
    """A host that was started again has new devices: what was limited is again. Raises LabError."""
    if record.is_file():
        shape(client, parse(record.read_text().split()))


def running(client: Any) -> list[Any]:
    """Containers of the hosts that run."""
    return list(client.containers.list(filters={"label": f"{places.LABEL}=host"}))


def host_of(container: Any) -> str:
    """The name of a container's host."""
    return str(container.name).removeprefix(f"{places.PREFIX}-")


def shape(client: Any, limits: Limits) -> None:
    """Give every end its limit, or none. Raises LabError."""
    peers = {}
    for container in running(client):
        rate = limits.of(host_of(container))
        peers[int(checked(client, container.name, inside(rate)))] = rate
    if peers:
        # A container of the hosts' image: it has tc, and needs neither root here nor a package of this machine.
        image = running(client)[0].attrs["Config"]["Image"]
        on_machine(client, image, outside(bridge_of(client), limits.all, peers))


def checked(client: Any, container: str, script: str) -> str:
    """What a script prints in a container. Raises LabError where it fails, or prints nothing."""
    code, output = 0, ""
    for _ in range(TRIES):
        code, output = hosts.execute(client, container, ["sh", "-c", script])
        if code != 0 or output:
            break
    if code != 0 or not output:
        raise LabError(f"{container}: its link does not answer to tc", "run it again: r1deploy lab up", output)
    return output


def bridge_of(client: Any) -> str:
    """The name of the lab's bridge on this machine."""
    network = client.networks.list(names=[f"^{places.NETWORK}$"])[0]
    options = network.attrs.get("Options") or {}
    return str(options.get("com.docker.network.bridge.name") or f"br-{network.id[:12]}")


def on_machine(client: Any, image: str, script: str) -> None:
    """Run a script in this machine's own network. Raises LabError where it fails."""
    from docker.errors import APIError, ContainerError

    try:
        client.containers.run(
            image,
            ["sh", "-c", script],
            network_mode="host",
            cap_add=["NET_ADMIN"],
            labels={places.LABEL: "link"},
            remove=True,
        )
    except (ContainerError, APIError) as error:
        raise LabError("the lab's bridge cannot be limited", evidence=str(error)) from error


def rate_in(shown: str) -> Rate | None:
    """The limit in what ``tc -j qdisc show`` prints; None: there is none."""
    rows = [row for row in json.loads(shown) if row.get("kind") == "tbf"]
    return Rate(int(rows[0]["options"]["rate"]) * 8) if rows else None


def shown(client: Any, container: str) -> str | None:
    """The limit that a host's own end has now; None: none. Raises LabError."""
    rate = rate_in(checked(client, container, f"tc -j qdisc show dev {INSIDE} root"))
    return str(rate) if rate else None
