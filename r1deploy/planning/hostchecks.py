"""Preflight's findings on one host; a pure function a thing that is looked at.

Numbers and names of both sides stand in the detail; the fix is a command where there is one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile

from r1deploy.cluster.host import Host
from r1deploy.modes import mode_of
from r1deploy.planning.desired import Desired, size_of
from r1deploy.planning.findings import BOOTSTRAP, SERVE, Check, failed, passed
from r1deploy.planning.interfaces import absent
from r1deploy.planning.interfaces import named as named_interfaces
from r1deploy.planning.observed import Observed
from r1deploy.planning.shardfindings import judged

MIN_PYTHON = (3, 8)
MIN_ENGINE = (20, 10)
MIN_ENGINE_ZSTD = (23, 0)
# What uname calls a machine, and what an image calls it.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "loongarch64": "loong64"}
# What keeps a privileged container in the host's pid namespace from being made, and the way out.
ISOLATED = {
    "userns": (
        "maps users (userns-remap): it makes no privileged container in the host's namespaces",
        "take userns-remap out of /etc/docker/daemon.json, then: systemctl restart docker (its images are loaded anew)",
    ),
    "rootless": (
        "runs rootless: its containers have neither the chips nor the host's network",
        "apt-get install docker.io, and let it, not the rootless one, listen at /var/run/docker.sock",
    ),
}
# A host with many containers has an interface for each.
MOST_NAMED = 8


def version_of(text: str | None) -> tuple[int, ...]:
    """Leading numbers of a version; empty where there is none."""
    numbers: list[int] = []
    for part in (text or "").split("."):
        digits = "".join(takewhile(str.isdecimal, part))
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers[:3])


def incomplete(_: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """Parts of the probe that failed, each by its name: never "nothing there"."""
    for part, why in seen.problems.items():
        fix = "look again; if it stays, see on the host what hangs there: its disks, its shares, its smi tool"
        yield failed("PROBE_INCOMPLETE", "probe", f"{part}: {why}", fix)


def python(_: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """Ansible's modules need Python 3.8 on the host."""
    said = f"Python {seen.host.python}"
    if version_of(seen.host.python) >= MIN_PYTHON:
        yield passed("python", said)
    else:
        yield failed("PYTHON_OLD", "python", said, "install Python 3.8 or newer on the host")


def tools(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """What Ansible's modules call on the hosts."""
    wanted = {"requests": "python3-requests"}
    if len(desired.hosts) > 1:
        wanted["rsync"] = "rsync"
    if host == desired.builder:
        wanted["git"] = "git"
    if host.is_head:
        wanted["ssh_keygen"] = "openssh-client"
    missing = [name for name in wanted if not seen.host.tools.get(name)]
    if missing:
        fix = f"apt-get install {' '.join(wanted[name] for name in missing)}"
        yield failed("TOOLS_MISSING", "tools", f"missing: {', '.join(missing)}", fix, BOOTSTRAP)
    else:
        yield passed("tools", ", ".join(wanted))


def sudo(_: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """Everything runs as root on the host."""
    login = seen.host.login
    if seen.host.sudo:
        yield passed("sudo", f"{login} is root on the host")
    else:
        fix = f"log in as root, or: echo '{login} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/r1deploy"
        yield failed("SUDO_REFUSED", "sudo", f"{login} cannot become root", fix)


def engine(_: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """A Docker Engine that answers, not too old."""
    if not seen.engine.ok:
        fix = "systemctl start docker (or: apt-get install docker.io)"
        yield failed("ENGINE_DOWN", "engine", seen.engine.error or "no answer", fix)
        return
    said = f"Docker Engine {seen.engine.version}"
    if version_of(seen.engine.version) >= MIN_ENGINE:
        yield passed("engine", said)
    else:
        yield failed("ENGINE_OLD", "engine", said, "install Docker Engine 20.10 or newer")
    if seen.engine.isolated:
        how, fix = ISOLATED[seen.engine.isolated]
        yield failed("ENGINE_ISOLATED", "engine", f"{said} {how}", fix)


def disk(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """Room for what has still to come: the image, the trees."""
    wanted = desired.settings.disk
    if seen.engine.ok and not desired.has_image(seen.image):
        said = f"{seen.engine.free_gib:.0f} GiB free in {seen.engine.root}, the image needs {wanted.engine_gib}"
        yield from room("disk engine", seen.engine.free_gib >= wanted.engine_gib, said, "disk.engine_gib")
    if not seen.state.trees.get(desired.release.flagscale.name):
        top = desired.layout.top
        said = f"{seen.state.free_gib:.0f} GiB free for {top}, a release needs {wanted.state_gib}"
        yield from room("disk state", seen.state.free_gib >= wanted.state_gib, said, "disk.state_gib")


def room(name: str, enough: bool, said: str, setting: str) -> Iterator[Check]:
    """Whether a disk has room."""
    if enough:
        yield passed(name, said)
    else:
        yield failed("DISK_FULL", name, said, f"free space, or lower {setting}", BOOTSTRAP)


def tarball(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """The image of the tarball runs on this machine, and its engine can unpack it."""
    if desired.has_image(seen.image):
        return
    own, wanted = ARCHITECTURES.get(seen.host.arch, seen.host.arch), desired.image_arch
    if wanted is not None:
        said = f"the image is for {wanted}, the host is {own}"
        fix = f"ask for the image for {own}"
        yield passed("image", said) if own == wanted else failed("IMAGE_ARCH", "image", said, fix, BOOTSTRAP)
    if desired.image_packed == "zstd" and seen.engine.ok:
        version = seen.engine.version
        said = f"the tarball is packed with zstd, Docker Engine {version} reads it"
        if version_of(version) >= MIN_ENGINE_ZSTD:
            yield passed("image", said)
            return
        packed = desired.settings.image.tarball or ""
        plain = packed.removesuffix(".zst") if packed.endswith(".zst") else f"{packed}.plain"
        fix = f"here: zstd -d {shlex.quote(packed)} -o {shlex.quote(plain)}, then image.tarball: {plain}"
        yield failed("ENGINE_OLD", "image", f"{said} from 23.0 on", fix, BOOTSTRAP)


def address(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """The hostfile's address is on an interface of the host, and its own name is no loopback."""
    if seen.net.nic is not None:
        yield passed("address", f"{host.address} on {seen.net.nic}")
    else:
        fix = "put the address of the cluster's network in the hostfile"
        yield failed("ADDRESS_ELSEWHERE", "address", f"no interface carries {host.address}", fix)
    own = seen.net.hostname_ip or ""
    said = f"{seen.host.hostname} is {own or 'not resolved'}"
    if len(desired.hosts) == 1 or not own.startswith("127."):
        yield passed("hostname", said)
    else:
        fix = f"on the host: {hosts_line(host.address, seen.host.hostname)}"
        yield failed("HOSTNAME_LOOPBACK", "hostname", said, fix, SERVE)


def hosts_line(address: str, name: str) -> str:
    """The command that gives a name its address: a line for it alone would come after the one for 127.x, and lose."""
    take = shlex.quote(rf"s/^(127\..*)[[:space:]]{re.escape(name)}([[:space:]]|$)/\1\2/")
    line = f"echo {shlex.quote(address)} {shlex.quote(name)}"
    return f"cp /etc/hosts /etc/hosts.old && (sed -E {take} /etc/hosts.old; {line}) > /etc/hosts"


def interfaces(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """Interfaces that the settings name are on the host: the same value goes to all hosts."""
    there = [name for name in seen.net.nics if name != "lo"]
    for name, value in named_interfaces(desired.settings.env).items():
        missing = absent(name, value, seen.net.nics)
        if not missing:
            yield passed("interfaces", f"env.{name}: {value}")
            continue
        has = f"the host has {', '.join(there[:MOST_NAMED])}{' …' if len(there) > MOST_NAMED else ''}"
        fix = f"set env.{name} to auto: the interface of each host's own address"
        said = f"env.{name} names {', '.join(missing)}, {has}"
        yield failed("INTERFACE_MISSING", "interfaces", said, fix)


def ports(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """The ports of the way of serving are free on the head."""
    if not host.is_head:
        return
    settings = desired.settings
    for setting, port in mode_of(settings.service.mode).ports(settings).items():
        if port not in seen.net.ports_taken:
            yield passed("port", f"port {port} is free")
        else:
            fix = f"ss -ltnp 'sport = :{port}', or set {setting}"
            yield failed("PORT_TAKEN", "port", f"port {port} is taken", fix, SERVE)


def chips(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """As many healthy chips as slots, of the profile's kind."""
    shown = seen.chips
    if shown.error:
        yield failed("DRIVER_MISSING", "chips", shown.error, "install the vendor's driver on the host")
        return
    prefixes = tuple(desired.settings.chip.name_prefixes)
    sick = [chip for chip in shown.chips if not chip.name.startswith(prefixes)]
    if sick:
        said = f"chip {', '.join(str(chip.index) for chip in sick)}: {sick[0].name!r}"
        yield failed("CHIP_SICK", "chips", said, "see the host's kernel log; reboot it or replace the board")
    elif len(shown.chips) != host.slots or shown.pci > len(shown.chips):
        said = f"{len(shown.chips)} chips, slots={host.slots}" + (f", {shown.pci} on PCI" if shown.pci else "")
        fix = f"slots={len(shown.chips)} in the inventory, or find the missing chips"
        yield failed("CHIPS_MISMATCH", "chips", said, fix)
    else:
        name = shown.chips[0].name if shown.chips else "no chips"
        yield passed("chips", f"{len(shown.chips)} × {name}, driver {shown.driver}")
    if shown.driver is None:
        yield failed("DRIVER_MISSING", "driver", "the smi tool shows no driver version", "reinstall the driver")


def idle_chips(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """No chip's memory is in use before the start."""
    limit = desired.settings.chip.idle_memory_mib
    busy = [f"{chip.index} ({chip.used_mib} MiB)" for chip in seen.chips.chips if chip.used_mib > limit]
    if busy:
        fix = "end what uses the chips, then try again"
        yield failed("CHIP_BUSY", "chip memory", f"memory in use on chip {', '.join(busy)}", fix, SERVE)
    else:
        yield passed("chip memory", f"all under {limit} MiB")


def memory(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """Memory for the build, the loading and the container's shm; a running engine has taken its own already."""
    if "memory" in seen.problems:
        return
    free, need = seen.memory.available_mib / 1024, desired.settings.memory.available_gib
    said = f"{free:.0f} of {seen.memory.total_mib / 1024:.0f} GiB of memory available, {need} needed"
    if free >= need:
        yield passed("memory", said)
    else:
        fix = "end what takes it (ps aux --sort=-rss), or lower memory.available_gib"
        yield failed("MEMORY_LOW", "memory", said, fix)


def shm(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """With the host's /dev mounted, the container has the host's /dev/shm, whatever --shm-size says."""
    mounted = any(volume.split(":")[1:2] == ["/dev"] for volume in desired.settings.container.volumes)
    if "memory" in seen.problems or not mounted:
        return
    has, need = seen.memory.shm_mib, size_of(desired.settings.container) >> 20
    said = f"/dev/shm of {has} MiB, container.shm_size asks for {need} MiB"
    if has >= need:
        yield passed("shm", said)
    else:
        yield failed("SHM_SMALL", "shm", said, f"mount -o remount,size={need}m /dev/shm (and in /etc/fstab)", SERVE)


def foreign(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """Nobody else's Ray or vLLM may live on the hosts of the service."""
    rows = seen.processes.foreign
    if not rows:
        yield passed("foreign processes", "none")
        return
    first = rows[0]
    where = f" in container {first.container}" if first.container else ""
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    said = f"pid {first.pid}{where}: {first.command[:60]}{more}"
    fix = f"end them yourself: {mode_of(desired.settings.service.mode).alone}"
    yield failed("FOREIGN_PROCESSES", "foreign processes", said, fix, SERVE)


def names(desired: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """No stranger holds our container's name."""
    for name in (desired.settings.container.name, desired.candidate_name):
        row = seen.container_named(name)
        if row is not None and row.cluster != desired.settings.cluster:
            said = f"{name} is not of this cluster (image {row.image[7:19]}); {differences(desired, row.spec)}"
            fix = f"docker rename {name} {name}-old, or set container.name"
            yield failed("CONTAINER_FOREIGN", "container name", said, fix)


def differences(desired: Desired, spec: Mapping[str, object]) -> str:
    """What a stranger's container has other than ours, in words."""
    rows = [name for name, wanted in desired.container_spec.items() if spec.get(name) != wanted]
    return f"differs in {', '.join(rows)}" if rows else "same settings, no label of ours"


def weights(_: Desired, host: Host, seen: Observed) -> Iterator[Check]:
    """The checkpoint is there, and each shard is as long as its header says."""
    if seen.weights is None:
        return
    verdict = judged(seen.weights, seen.weights.path)
    if verdict.code is None:
        yield passed("weights", verdict.said)
    else:
        bring = "r1deploy weights pull (from the hub) or r1deploy weights push (from a good host); or set engine.model"
        yield failed(verdict.code, "weights", verdict.said, verdict.fix or bring)


Look = Callable[[Desired, Host, Observed], Iterable[Check]]
ALWAYS: tuple[Look, ...] = (
    incomplete,
    python,
    tools,
    sudo,
    engine,
    disk,
    tarball,
    address,
    interfaces,
    chips,
    foreign,
    shm,
    names,
    weights,
)
# What the service itself uses: looked at where none runs.
BEFORE_A_START: tuple[Look, ...] = (idle_chips, memory, ports)
