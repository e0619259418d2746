"""The lab hosts: containers of this machine's engine that behave as machines."""

from __future__ import annotations

import io
import re
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1deploy.lab import places
from r1deploy.lab.laberrors import LabError

Say = Callable[[str], None]
# Linux capabilities by bit; the engine of Debian 12 knows them up to AUDIT_READ.
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
)  # fmt: skip
READY_SECONDS = 60
# A limit, not a reservation: what container.shm_size of the profile asks for.
SHM_SIZE = "32g"


def bounding_set() -> list[str]:
    """Capabilities this machine can give: --privileged fails where one of them is missing."""
    status = Path("/proc/self/status").read_text()
    bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)", status, re.MULTILINE)
    mask = int(bounding.group(1), 16) if bounding else 0
    return [name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1]


def ensure_network(client: Any) -> None:
    """The lab's network, with fixed addresses."""
    from docker.errors import APIError

    if client.networks.list(names=[f"^{places.NETWORK}$"]):
        return
    pool = {"Subnet": places.subnet(), "Gateway": places.gateway()}
    try:
        client.api.create_network(
            places.NETWORK,
            driver="bridge",
            ipam={"Driver": "default", "Config": [pool]},
            labels={places.LABEL: "network"},
            check_duplicate=True,
        )
    except APIError as error:
        fix = "set R1DEPLOY_LAB_NETWORK to three free numbers, such as 172.30.77"
        raise LabError(f"the network {places.subnet()} cannot be had", fix, str(error)) from error


def ensure_volume(client: Any, name: str) -> None:
    client.api.create_volume(name, labels={places.LABEL: "volume"})


def find(client: Any, name: str) -> Any | None:
    from docker.errors import NotFound

    try:
        return client.containers.get(name)
    except NotFound:
        return None


def host_config(client: Any, binds: list[str], machine: bool) -> dict[str, Any]:
    """What a lab host may do: everything this machine can give, by name."""
    addresses = {places.node_name(n): places.node_address(n) for n in range(1, places.MAX_HOSTS + 1)}
    config: dict[str, Any] = client.api.create_host_config(
        binds=binds,
        extra_hosts=addresses,
        cap_add=bounding_set() if machine else None,
        security_opt=["seccomp=unconfined", "apparmor=unconfined"] if machine else None,
        device_cgroup_rules=["a *:* rwm"] if machine else None,
        # A machine's own is half of its memory. The product's container gets the host's with /dev:/dev.
        shm_size=SHM_SIZE if machine else None,
        network_mode=places.NETWORK,
    )
    if machine:
        # `--security-opt systempaths=unconfined` is the client's spelling of these two.
        config["MaskedPaths"], config["ReadonlyPaths"] = [], []
        # The inner engine makes its cgroups in the tree that is mounted below.
        config["CgroupnsMode"] = "host"
    return config


@dataclass(frozen=True)
class Wanted:
    """A container of the lab as it shall be; ``role`` is ``host`` or ``upstream``."""

    name: str
    image: str
    address: str
    binds: Sequence[str]
    role: str

    @property
    def recipe(self) -> str:
        """What the container is made of; one of another recipe is made anew."""
        return f"{self.image} shm={SHM_SIZE}"


def create(client: Any, wanted: Wanted) -> None:
    """Create and start one container of the lab."""
    hostname = wanted.name.removeprefix(f"{places.PREFIX}-")
    endpoint = client.api.create_endpoint_config(ipv4_address=wanted.address, aliases=[hostname])
    made = client.api.create_container(
        wanted.image,
        hostname=hostname,
        name=wanted.name,
        environment={"R1LAB_ROLE": wanted.role, "container": "docker"},
        labels={places.LABEL: wanted.role, places.RECIPE_LABEL: wanted.recipe},
        host_config=host_config(client, list(wanted.binds), machine=wanted.role == "host"),
        networking_config=client.api.create_networking_config({places.NETWORK: endpoint}),
        stop_signal="SIGTERM",
    )
    client.api.start(made["Id"])


def ensure(client: Any, wanted: Wanted, say: Say) -> bool:
    """The container runs, as it shall be; True when it was made or started anew."""
    container = find(client, wanted.name)
    if container is not None and (reason := outdated(container, wanted)):
        say(f"{wanted.name}: replaced, {reason}")
        container.remove(force=True)
        container = None
    if container is None:
        create(client, wanted)
        return True
    if container.status != "running":
        say(f"{wanted.name}: was {container.status}, started again")
        container.start()
        return True
    return False


def outdated(container: Any, wanted: Wanted) -> str:
    """Why the container cannot stay; empty where it can."""
    if container.labels.get(places.RECIPE_LABEL) != wanted.recipe:
        return "its recipe has changed"
    if sorted(container.attrs["HostConfig"]["Binds"] or []) != sorted(wanted.binds):
        return "it is of a lab in another folder"
    return ""


def ensure_node(client: Any, number: int, image: str, say: Say) -> bool:
    """A host of the lab runs; True when it was made or started anew."""
    host = places.node_name(number)
    ensure_volume(client, places.engine_volume(host))
    binds = (
        f"{places.engine_volume(host)}:/var/lib/docker",
        f"{places.SHARE_VOLUME}:{places.MOUNT_POINT}",
        "/sys/fs/cgroup:/sys/fs/cgroup:rw",
    )
    wanted = Wanted(places.container_name(host), image, places.node_address(number), binds, "host")
    return ensure(client, wanted, say)


def ensure_upstream(client: Any, image: str, folder: Path, say: Say) -> bool:
    """The server of the upstream repositories runs; True when it was made or started anew."""
    wanted = Wanted(places.UPSTREAM, image, places.upstream_address(), (f"{folder}:/srv/git:ro",), "upstream")
    return ensure(client, wanted, say)


def wait_ready(client: Any, container: str) -> None:
    """Until sshd listens and the inner engine answers."""
    until = time.monotonic() + READY_SECONDS
    script = "test -S /run/docker.sock && docker version >/dev/null 2>&1 && ss -Hltn 'sport = :22' | grep -q ."
    probe = ["sh", "-c", script]
    while True:
        host = find(client, container)
        if host is None or host.status != "running":
            log = host.logs(tail=15).decode(errors="replace") if host is not None else ""
            raise LabError(f"{container} does not run", evidence=log)
        if execute(client, container, probe)[0] == 0:
            return
        if time.monotonic() > until:
            log = execute(client, container, ["tail", "-n", "12", "/var/log/dockerd.log"])[1]
            raise LabError(f"{container}: no sshd and engine within {READY_SECONDS} s", evidence=log)
        time.sleep(0.3)


def execute(client: Any, container: str, argv: list[str], stdin: bytes | None = None) -> tuple[int, str]:
    """Run a command in a container; its exit code and all it printed."""
    from docker.errors import APIError

    try:
        made = client.api.exec_create(container, argv, stdin=stdin is not None)
        if stdin is None:
            output = client.api.exec_start(made["Id"])
        else:
            output = feed(client.api.exec_start(made["Id"], socket=True), stdin)
    except APIError as error:
        return 126, str(error)
    code = client.api.exec_inspect(made["Id"])["ExitCode"]
    return int(code if code is not None else 126), output.decode(errors="replace")


def feed(stream: Any, data: bytes) -> bytes:
    """Write to an exec's socket, close that half, read the frames that come back."""
    import socket

    from docker.utils.socket import frames_iter

    raw = getattr(stream, "_sock", stream)
    raw.sendall(data)
    raw.shutdown(socket.SHUT_WR)
    frames: Iterator[tuple[int, bytes]] = frames_iter(stream, tty=False)
    return b"".join(part for _, part in frames)


def put_files(client: Any, container: str, files: dict[str, tuple[bytes, int, int]]) -> None:
    """Lay files with mode and owner into a running container (folders as they are)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, (data, mode, owner) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(data), mode, owner, owner
            entry.mtime = int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    client.api.put_archive(container, "/", stream.getvalue())


def remove_all(client: Any, say: Say) -> None:
    """Every container, volume and network that carries the lab's label."""
    from docker.errors import APIError

    for container in client.containers.list(all=True, filters={"label": places.LABEL}):
        say(f"removing {container.name}")
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters={"label": places.LABEL}):
        volume.remove(force=True)
    for network in client.networks.list(filters={"label": places.LABEL}):
        try:
            network.remove()
        except APIError as error:
            raise LabError(f"the network {network.name} is in use", evidence=str(error)) from error
