"""Preflight's findings as a pure function: per host and across hosts.

A check that fails is a blocker for the verbs it names. Numbers and names of both
sides stand in the detail; the fix is a command where there is one.
"""

from __future__ import annotations

import re
import shlex
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile

from r1deploy.cluster.host import Host
from r1deploy.planning.desired import Desired, ports_of, size_of
from r1deploy.planning.exposure import exposure
from r1deploy.planning.findings import BOOTSTRAP, BOTH, SERVE, Check
from r1deploy.planning.interfaces import absent
from r1deploy.planning.interfaces import named as named_interfaces
from r1deploy.planning.observed import Observed
from r1deploy.settings.model import Settings

MIN_PYTHON = (3, 8)
MIN_ENGINE = (20, 10)
MIN_ENGINE_ZSTD = (23, 0)
# What uname calls a machine, and what an image calls it.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "loongarch64": "loong64"}
CLOCK_SKEW_SECONDS = 30
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


def check_all(desired: Desired, observed: Mapping[str, Observed]) -> list[Check]:
    """All findings, hosts in their order, then those across hosts.

    In: what is wanted; what was found on each host that answered.
    """
    serving = any(found.processes.engines for found in observed.values())
    rows: list[Check] = []
    for host in desired.hosts:
        if host.name in observed:
            found = observed[host.name]
            for look in PER_HOST:
                rows.extend(look(desired, host, found))
            if not serving:
                rows.extend(idle_chips(desired, host, found))
                rows.extend(memory(desired, host, found))
                rows.extend(ports(desired, host, found))
    for across in ACROSS:
        rows.extend(across(desired, observed))
    return rows


def seen(_: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """Parts of the probe that failed, each by its name: never "nothing there"."""
    for part, why in found.problems.items():
        fix = "look again; if it stays, see on the host what hangs there: its disks, its shares, its smi tool"
        yield Check("probe", host.name, False, f"{part}: {why}", "PROBE_INCOMPLETE", fix)


def python(_: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """Ansible's modules need Python 3.8 on the host."""
    ok = version_of(found.host.python) >= MIN_PYTHON
    yield Check(
        "python", host.name, ok, f"Python {found.host.python}", "PYTHON_OLD", "install Python 3.8 or newer on the host"
    )


def tools(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """What Ansible's modules call on the hosts."""
    wanted = {"requests": "python3-requests"}
    if len(desired.hosts) > 1:
        wanted["rsync"] = "rsync"
    if host == desired.builder:
        wanted["git"] = "git"
    if host.is_head:
        wanted["ssh_keygen"] = "openssh-client"
    missing = [name for name in wanted if not found.host.tools.get(name)]
    packages = " ".join(wanted[name] for name in missing)
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(wanted)
    yield Check("tools", host.name, not missing, detail, "TOOLS_MISSING", f"apt-get install {packages}", BOOTSTRAP)


def sudo(_: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """Everything runs as root on the host."""
    login = found.host.login
    yield Check(
        "sudo",
        host.name,
        found.host.sudo,
        f"{login} is root on the host" if found.host.sudo else f"{login} cannot become root",
        "SUDO_REFUSED",
        f"log in as root, or: echo '{login} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/r1deploy",
    )


def engine(_: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """A Docker Engine that answers, not too old."""
    if not found.engine.ok:
        yield Check(
            "engine",
            host.name,
            False,
            found.engine.error or "no answer",
            "ENGINE_DOWN",
            "systemctl start docker (or: apt-get install docker.io)",
        )
        return
    ok = version_of(found.engine.version) >= MIN_ENGINE
    detail = f"Docker Engine {found.engine.version}"
    yield Check("engine", host.name, ok, detail, "ENGINE_OLD", "install Docker Engine 20.10 or newer")
    if found.engine.isolated:
        said, fix = ISOLATED[found.engine.isolated]
        yield Check("engine", host.name, False, f"{detail} {said}", "ENGINE_ISOLATED", fix)


def disk(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """Room for what has still to come: the image, the trees."""
    wanted = desired.settings.disk
    if found.engine.ok and not desired.has_image(found.image):
        free, need = found.engine.free_gib, wanted.engine_gib
        detail = f"{free:.0f} GiB free in {found.engine.root}, the image needs {need}"
        yield Check(
            "disk engine",
            host.name,
            free >= need,
            detail,
            "DISK_FULL",
            "free space, or lower disk.engine_gib",
            BOOTSTRAP,
        )
    if not found.state.trees.get(desired.release.flagscale.name):
        free, need = found.state.free_gib, wanted.state_gib
        detail = f"{free:.0f} GiB free for {desired.settings.state_dir}, a release needs {need}"
        yield Check(
            "disk state", host.name, free >= need, detail, "DISK_FULL", "free space, or lower disk.state_gib", BOOTSTRAP
        )


def tarball(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """The image of the tarball runs on this machine, and its engine can unpack it."""
    if desired.has_image(found.image):
        return
    own, wanted = ARCHITECTURES.get(found.host.arch, found.host.arch), desired.image_arch
    if wanted is not None:
        detail = f"the image is for {wanted}, the host is {own}"
        fix = f"ask for the image for {own}"
        yield Check("image", host.name, own == wanted, detail, "IMAGE_ARCH", fix, BOOTSTRAP)
    if desired.image_packed == "zstd" and found.engine.ok:
        version = found.engine.version
        ok = version_of(version) >= MIN_ENGINE_ZSTD
        detail = f"the tarball is packed with zstd, Docker Engine {version} reads it {'' if ok else 'from 23.0 on'}"
        packed = desired.settings.image.tarball or ""
        plain = packed.removesuffix(".zst") if packed.endswith(".zst") else f"{packed}.plain"
        fix = f"here: zstd -d {shlex.quote(packed)} -o {shlex.quote(plain)}, then image.tarball: {plain}"
        yield Check("image", host.name, ok, detail.strip(), "ENGINE_OLD", fix, BOOTSTRAP)


def address(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """The hostfile's address is on an interface of the host, and its own name is no loopback."""
    ok = found.net.nic is not None
    detail = f"{host.address} on {found.net.nic}" if ok else f"no interface carries {host.address}"
    yield Check(
        "address",
        host.name,
        ok,
        detail,
        "ADDRESS_ELSEWHERE",
        "put the address of the cluster's network in the hostfile",
    )
    own = found.net.hostname_ip or ""
    ok = len(desired.hosts) == 1 or not own.startswith("127.")
    detail = f"{found.host.hostname} is {own or 'not resolved'}"
    fix = f"on the host: {hosts_line(host.address, found.host.hostname)}"
    yield Check("hostname", host.name, ok, detail, "HOSTNAME_LOOPBACK", fix, SERVE)


def hosts_line(address: str, name: str) -> str:
    """The command that gives a name its address: a line for it alone would come after the one for 127.x, and lose."""
    take = shlex.quote(rf"s/^(127\..*)[[:space:]]{re.escape(name)}([[:space:]]|$)/\1\2/")
    line = f"echo {shlex.quote(address)} {shlex.quote(name)}"
    return f"cp /etc/hosts /etc/hosts.old && (sed -E {take} /etc/hosts.old; {line}) > /etc/hosts"


def interfaces(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """Interfaces that the settings name are on the host: the same value goes to all hosts."""
    there = [name for name in found.net.nics if name != "lo"]
    for name, value in named_interfaces(desired.settings.env).items():
        missing = absent(name, value, found.net.nics)
        said = f"the host has {', '.join(there[:MOST_NAMED])}{' …' if len(there) > MOST_NAMED else ''}"
        detail = f"env.{name} names {', '.join(missing)}, {said}" if missing else f"env.{name}: {value}"
        fix = f"set env.{name} to auto: the interface of each host's own address"
        yield Check("interfaces", host.name, not missing, detail, "INTERFACE_MISSING", fix)


def ports(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """The API's port is free on the head, and Ray's where it is ours to start."""
    if not host.is_head:
        return
    for setting, port in ports_of(desired.settings).items():
        ok = port not in found.net.ports_taken
        detail = f"port {port} is {'free' if ok else 'taken'}"
        yield Check("port", host.name, ok, detail, "PORT_TAKEN", f"ss -ltnp 'sport = :{port}', or set {setting}", SERVE)


def chips(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """As many healthy chips as slots, of the profile's kind."""
    seen = found.chips
    if seen.error:
        yield Check("chips", host.name, False, seen.error, "DRIVER_MISSING", "install the vendor's driver on the host")
        return
    prefixes = tuple(desired.settings.chip.name_prefixes)
    sick = [chip for chip in seen.chips if not chip.name.startswith(prefixes)]
    count = max(seen.pci, len(seen.chips))
    if sick:
        detail = f"chip {', '.join(str(chip.index) for chip in sick)}: {sick[0].name!r}"
        yield Check(
            "chips", host.name, False, detail, "CHIP_SICK", "see the host's kernel log; reboot it or replace the board"
        )
    elif len(seen.chips) != host.slots or count != len(seen.chips):
        detail = f"{len(seen.chips)} chips, slots={host.slots}" + (f", {seen.pci} on PCI" if seen.pci else "")
        fix = f"slots={len(seen.chips)} in the inventory, or find the missing chips"
        yield Check("chips", host.name, False, detail, "CHIPS_MISMATCH", fix)
    else:
        name = seen.chips[0].name if seen.chips else "no chips"
        yield Check("chips", host.name, True, f"{len(seen.chips)} × {name}, driver {seen.driver}", "CHIPS_MISMATCH")
    if seen.driver is None:
        yield Check(
            "driver", host.name, False, "the smi tool shows no driver version", "DRIVER_MISSING", "reinstall the driver"
        )


def idle_chips(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """No chip's memory is in use before the start."""
    limit = desired.settings.chip.idle_memory_mib
    busy = [f"{chip.index} ({chip.used_mib} MiB)" for chip in found.chips.chips if chip.used_mib > limit]
    detail = f"memory in use on chip {', '.join(busy)}" if busy else f"all under {limit} MiB"
    yield Check(
        "chip memory", host.name, not busy, detail, "CHIP_BUSY", "end what uses the chips, then try again", SERVE
    )


def memory(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """Memory for the build, the loading and the container's shm; a running engine has taken its own already."""
    if "memory" in found.problems:
        return
    free, need = found.memory.available_mib / 1024, desired.settings.memory.available_gib
    detail = f"{free:.0f} of {found.memory.total_mib / 1024:.0f} GiB of memory available, {need} needed"
    fix = "end what takes it (ps aux --sort=-rss), or lower memory.available_gib"
    yield Check("memory", host.name, free >= need, detail, "MEMORY_LOW", fix)


def shm(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """With the host's /dev mounted, the container has the host's /dev/shm, whatever --shm-size says."""
    if "memory" in found.problems or not any(
        volume.split(":")[1:2] == ["/dev"] for volume in desired.settings.container.volumes
    ):
        return
    has, need = found.memory.shm_mib, size_of(desired.settings.container) >> 20
    detail = f"/dev/shm of {has} MiB, container.shm_size asks for {need} MiB"
    fix = f"mount -o remount,size={need}m /dev/shm (and in /etc/fstab)"
    yield Check("shm", host.name, has >= need, detail, "SHM_SMALL", fix, SERVE)


def foreign(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """FlagScale's start kills by pattern over the whole host: nobody else's Ray or vLLM may live there.

    Without FlagScale they would still share chips and ports with the service.
    """
    rows = found.processes.foreign
    if rows:
        first = rows[0]
        where = f" in container {first.container}" if first.container else ""
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        detail = f"pid {first.pid}{where}: {first.command[:60]}{more}"
        flagscale = desired.settings.service.mode == "flagscale"
        why = "the start of FlagScale would kill them" if flagscale else "they would share chips and ports"
        fix = f"end them yourself: {why}"
        yield Check("foreign processes", host.name, False, detail, "FOREIGN_PROCESSES", fix, SERVE)
    else:
        yield Check("foreign processes", host.name, True, "none", "FOREIGN_PROCESSES", None, SERVE)


def names(desired: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """No stranger holds our container's name."""
    for name in (desired.settings.container.name, desired.candidate_name):
        row = found.container_named(name)
        if row is not None and row.cluster != desired.settings.cluster:
            detail = f"{name} is not of this cluster (image {row.image[7:19]}); {differences(desired, row.spec)}"
            fix = f"docker rename {name} {name}-old, or set container.name"
            yield Check("container name", host.name, False, detail, "CONTAINER_FOREIGN", fix)


def differences(desired: Desired, spec: Mapping[str, object]) -> str:
    """What a stranger's container has other than ours, in words."""
    rows = [name for name, wanted in desired.container_spec.items() if spec.get(name) != wanted]
    return f"differs in {', '.join(rows)}" if rows else "same settings, no label of ours"


def weights(_: Desired, host: Host, found: Observed) -> Iterator[Check]:
    """The checkpoint is there and each shard is as long as its header says."""
    seen = found.weights
    if seen is None:
        return
    fix = "r1deploy weights pull (from the hub) or r1deploy weights push (from a good host); or set engine.model"
    if seen.outside:
        links = [f"{seen.path if name == '.' else name} leads to {to}" for name, to in seen.outside.items()]
        detail = f"{', '.join(links)}: no volume of the container has that"
        more = "put the files themselves there, or mount that folder at the same path in container.volumes"
        yield Check("weights", host.name, False, detail, "WEIGHTS_MISSING", more)
    elif not seen.exists:
        yield Check("weights", host.name, False, f"{seen.path} is not there", "WEIGHTS_MISSING", fix)
    elif not seen.shards or not seen.config:
        what = "no safetensors" if not seen.shards else "no config.json"
        yield Check("weights", host.name, False, f"{seen.path}: {what}", "WEIGHTS_MISSING", fix)
    elif seen.missing or seen.bad:
        said = [f"missing {', '.join(seen.missing)}"] if seen.missing else []
        bad = [named(name, seen.why.get(name)) for name in seen.bad]
        said += [f"cut or damaged {', '.join(bad)}"] if bad else []
        yield Check("weights", host.name, False, f"{seen.path}: {'; '.join(said)}", "WEIGHTS_DAMAGED", fix)
    else:
        detail = f"{seen.shards} shards, {seen.bytes / 2**30:.1f} GiB"
        yield Check("weights", host.name, True, detail, "WEIGHTS_MISSING")


def named(shard: str, why: str | None) -> str:
    """A shard with what is wrong with it, where that is known."""
    return f"{shard} ({why})" if why else shard


def topology(desired: Desired, _: Mapping[str, Observed]) -> Iterator[Check]:
    """tp × pp is the number of chips, and a tensor group fits in a host."""
    tp = desired.settings.engine.tensor_parallel_size
    pp = desired.settings.engine.pipeline_parallel_size
    total = sum(host.slots for host in desired.hosts)
    slots = " + ".join(str(host.slots) for host in desired.hosts)
    smallest = min(desired.hosts, key=lambda host: host.slots)
    detail = f"tp {tp} × pp {pp} = {tp * pp}, chips {slots} = {total}"
    code, fix = "TOPOLOGY", "set engine.tensor_parallel_size and engine.pipeline_parallel_size to fit"
    if desired.settings.service.mode == "vllm" and desired.workers:
        said = f"service.mode vllm serves on one host, the inventory has {len(desired.hosts)}"
        yield Check("topology", None, False, said, code, "set service.mode to ray+vllm, or name one host only")
    elif tp * pp != total:
        yield Check("topology", None, False, detail, code, fix)
    elif tp > smallest.slots:
        yield Check("topology", None, False, f"tp {tp} > {smallest.slots} chips of {smallest.name}", code, fix)
    elif len({host.slots for host in desired.hosts}) > 1:
        yield Check("topology", None, False, f"uneven hosts: {detail}", code, "give each host the same slots")
    else:
        yield Check("topology", None, True, detail, code)


def memory_fits(desired: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """The checkpoint over tensor and pipeline ranks against the memory the engine may take of one chip."""
    seen = [found.weights for found in observed.values() if found.weights and found.weights.exists]
    if not seen:
        return
    largest = max(seen, key=lambda weights: weights.bytes)
    ok, detail = fits(desired.settings, largest.bytes, largest.layers)
    yield Check("weights fit", None, ok, detail, "WEIGHTS_TOO_LARGE", "more chips, or a smaller checkpoint")


def fits(settings: Settings, size: int, layers: int | None) -> tuple[bool, str]:
    """Whether a checkpoint of ``size`` bytes fits, and the arithmetic.

    Layers are not cut: with 61 of them on 4 stages the largest holds 16, which is more than a quarter.
    """
    engine, chip = settings.engine, settings.chip
    tp, pp = engine.tensor_parallel_size, engine.pipeline_parallel_size
    each = size / (tp * pp) / 2**20
    room = chip.memory_mib * engine.gpu_memory_utilization
    detail = f"{size / 2**30:.1f} GiB / (tp {tp} × pp {pp}) = {each:.0f} MiB a chip"
    if layers and layers % pp:
        most = -(-layers // pp)
        each = size * most / layers / tp / 2**20
        detail += f", {each:.0f} MiB in the stage with {most} of {layers} layers"
    return each < room, f"{detail}; {chip.memory_mib} MiB × {engine.gpu_memory_utilization:g} = {room:.0f} MiB"


def odd_one_out(
    name: str, code: str, values: Mapping[str, str | None], fix: str, blocks: frozenset[str] = BOTH
) -> Iterator[Check]:
    """A value that all hosts should share; the hosts that differ from the most common one are named."""
    if len(values) < 2:
        return
    common, _ = Counter(values.values()).most_common(1)[0]
    odd = {host: value for host, value in values.items() if value != common}
    for host, value in odd.items():
        yield Check(name, host, False, f"{value}, the others have {common}", code, fix, blocks)
    if not odd:
        yield Check(name, None, True, f"{common} on all hosts", code, None, blocks)


def drivers(_: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """One driver version over the cluster."""
    values = {host: found.chips.driver for host, found in observed.items() if found.chips.driver}
    yield from odd_one_out("driver", "DRIVER_DIFFERS", values, "install the same driver on all hosts")


def same_weights(_: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """The same checkpoint on all hosts: by headers and sizes, by its bytes where all hosts have them verified."""
    there = {host: found.weights for host, found in observed.items() if found.weights and found.weights.exists}
    fix = "r1deploy weights verify names the files; r1deploy weights push brings those of a good host"
    contents = {host: weights.content[:12] for host, weights in there.items() if weights.content}
    sums = {host: weights.sum for host, weights in there.items()}
    equal = len(set(sums.values())) == 1
    values = contents if equal and len(contents) == len(there) else sums
    yield from odd_one_out("same weights", "WEIGHTS_DIFFER", values, fix, SERVE)


def clocks(_: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """No clock far from the median host's; the probes of one run are a few seconds apart."""
    times = {host: found.host.time for host, found in observed.items()}
    if len(times) < 2:
        return
    # The low median is a host's own clock: the middle between two hosts would hide half of their distance.
    median = statistics.median_low(times.values())
    far = {host: time - median for host, time in times.items() if abs(time - median) > CLOCK_SKEW_SECONDS}
    for host, skew in far.items():
        yield Check("clock", host, False, f"{skew:+.0f} s from the median", "CLOCK_SKEW", "chronyc makestep")
    if not far:
        yield Check("clock", None, True, f"all within {CLOCK_SKEW_SECONDS} s", "CLOCK_SKEW")


def identities(_: Desired, observed: Mapping[str, Observed]) -> Iterator[Check]:
    """Each host is a machine of its own: cloned disks share machine-ids and names."""
    for name, key in (("machine-id", "machine_id"), ("hostname", "hostname")):
        owners: dict[str, list[str]] = {}
        for host, found in observed.items():
            value = getattr(found.host, key)
            if value:
                owners.setdefault(value, []).append(host)
        for value, hosts in owners.items():
            if len(hosts) > 1:
                detail = f"{name} {value} on {', '.join(hosts)}"
                fix = (
                    # Without the second file: systemd would take the id from there again.
                    "rm -f /etc/machine-id /var/lib/dbus/machine-id && systemd-machine-id-setup"
                    if key == "machine_id"
                    else f"hostnamectl hostname {hosts[-1]}"
                )
                yield Check("identity", hosts[-1], False, detail, "IDENTITY_TWICE", fix)


PER_HOST: tuple[Callable[[Desired, Host, Observed], Iterable[Check]], ...] = (
    seen,
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
ACROSS: tuple[Callable[[Desired, Mapping[str, Observed]], Iterable[Check]], ...] = (
    topology,
    memory_fits,
    drivers,
    same_weights,
    clocks,
    identities,
    exposure,
)
