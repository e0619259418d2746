"""Limits on the lab's links: a token bucket (tc tbf) at every end, so that what crosses the network can be measured.

A host's link has two ends: its ``eth0`` holds back what it sends, its veth at the bridge what it gets. The controller's
is the bridge itself, which holds back what this machine sends to all hosts together; what comes in here is held back by
each sender's own end, since tbf works on what leaves a device.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1deploy.lab import hosts, places
from r1deploy.lab.laberrors import LabError

RATE = re.compile(r"(\d{1,9})([kmgt]?)bit")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BUCKET = ("burst", "64kb", "latency", "50ms")
INSIDE = "eth0"


@dataclass(frozen=True)
class Rate:
    """How much crosses a link in a second, in bits."""

    bits: int

    def __str__(self) -> str:
        """As tc takes it, in the largest unit that leaves a whole number: ``50mbit``."""
        unit = next(unit for unit in reversed(UNITS) if self.bits % UNITS[unit] == 0)
        return f"{self.bits // UNITS[unit]}{unit}bit"


def parse(text: str) -> Rate:
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


def outside(bridge: str, peers: Sequence[int], rate: Rate | None) -> str:
    """The script for this machine: the bridge, and the hosts' ends there. In: the numbers of these devices."""
    finding = 'device=$(basename "$(dirname "$(grep -lx {peer} /sys/class/net/*/ifindex)")")'
    rows = ["set -e", shaping(bridge, rate)]
    for peer in peers:
        rows += [finding.format(peer=peer), shaping("DEVICE", rate).replace("DEVICE", '"$device"')]
    return "\n".join(rows)


def limit(client: Any, record: Path, rate: Rate) -> None:
    """Limit the links of all hosts that run, and this machine's to them.

    In: ``record``, the file that remembers the rate. Raises LabError.
    """
    record.write_text(f"{rate}\n")
    shape(client, rate)


def lift(client: Any, record: Path) -> None:
    """Take the limit away; without a record there is none. Raises LabError."""
    if record.is_file():
        shape(client, None)
        record.unlink()


def again(client: Any, record: Path) -> None:
    """A host that was started again has new devices: what was limited is again. Raises LabError."""
    if record.is_file():
        shape(client, parse(record.read_text().strip()))


def shape(client: Any, rate: Rate | None) -> None:
    """Give every end its limit; None: none. Raises LabError."""
    running = client.containers.list(filters={"label": f"{places.LABEL}=host"})
    peers = [int(checked(client, container.name, inside(rate))) for container in running]
    if running:
        # A container of the hosts' image: it has tc, and needs neither root here nor a package of this machine.
        on_machine(client, running[0].attrs["Config"]["Image"], outside(bridge_of(client), peers, rate))


def checked(client: Any, container: str, script: str) -> str:
    """What a script prints in a container. Raises LabError where it fails."""
    code, output = hosts.execute(client, container, ["sh", "-c", script])
    if code != 0:
        raise LabError(f"{container}: its link does not answer to tc", evidence=output)
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
    rows = [row for row in json.loads(shown or "[]") if row.get("kind") == "tbf"]
    return Rate(int(rows[0]["options"]["rate"]) * 8) if rows else None


def shown(client: Any, container: str) -> str | None:
    """The limit that a host's own end has now; None: none. Raises LabError."""
    rate = rate_in(checked(client, container, f"tc -j qdisc show dev {INSIDE} root"))
    return str(rate) if rate else None
