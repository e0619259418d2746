"""The lab as one object: up, down, status, and the hands a test needs in it."""

from __future__ import annotations

import fcntl
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1deploy.lab import places, thismachine
from r1deploy.lab.laberrors import LabError
from r1deploy.lab.places import Layout
from r1deploy.ui.terminal import show

if TYPE_CHECKING:
    from r1deploy.lab.engines import Engine
    from r1deploy.lab.links import Limits
    from r1deploy.lab.realupstreams import Upstream
    from r1deploy.lab.upstreams import Made

Say = Callable[[str], None]
CHIPS_FILE = "/dev/r1lab-chips.json"
ENGINE_FILE = "/dev/r1lab-engine.json"
FLAGGEMS_FILE = "/dev/r1lab-flaggems.json"
TORCH_FILE = "/dev/r1lab-torch.json"
IXSMI = "/usr/local/corex/bin/ixsmi"
GEMS_FAULTS = ("arg_defaults", "arguments", "assert", "wrong", "hang")
FAULTS = ("crash-at-start", "crash-while-loading", "hang", "no-tokens", "reasoning", "wrong-model")


@dataclass(frozen=True)
class LabHost:
    """One host of the lab."""

    name: str
    address: str

    @property
    def container(self) -> str:
        return places.container_name(self.name)


class Lab:
    """N real hosts on this machine, and the upstreams they clone from."""

    def __init__(self, folder: Path | None = None) -> None:
        self.layout = Layout((folder or places.default_folder()).expanduser().resolve())
        self._client: Any = None

    @property
    def folder(self) -> Path:
        return self.layout.folder

    def up(
        self,
        hosts: int = 2,
        install: bool = False,
        say: Say = show,
        engine: str = "light",
        upstream: Sequence[str] = (),
    ) -> None:
        """Bring the lab up; what is there already is left as it is.

        In: ``engine``: ``light`` (a stand-in), or ``vllm`` (the real one on CPUs);
        ``upstream``: real repositories for stand-ins, as ``NAME=URL`` or ``NAME=URL#COMMIT``.
        Raises LabError; WheelsMissing where the real engine cannot be had.
        """
        from r1deploy.lab import engines, images, links, realupstreams

        wanted = realupstreams.parse(upstream)
        chosen = engines.choose(engine, wanted)
        if not 1 <= hosts <= places.MAX_HOSTS:
            raise LabError(f"{hosts} hosts cannot be had", f"ask for 1 to {places.MAX_HOSTS}")
        started = time.monotonic()
        self.layout.folder.mkdir(parents=True, exist_ok=True)
        client = thismachine.client()
        if client is not None or install:  # without an engine nothing is downloaded for a lab that cannot start
            images.fetch_wheels(client, chosen.image, say)
        with self._alone():
            self._client = thismachine.ensure_engine(install, say)
            made = self._make(hosts, chosen, wanted, say)
            self._write_files(hosts, made, chosen)
            links.lift(self._client, self.layout.link)
        say(f"lab is up: {hosts} hosts, {self.folder} ({time.monotonic() - started:.0f} s)")

    def _make(self, count: int, engine: Engine, real: Mapping[str, Upstream], say: Say) -> Made:
        from r1deploy.lab import access, images, upstreams
        from r1deploy.lab import hosts as parts

        public = access.ensure_ssh_key(self.layout)
        made = upstreams.ensure(self.layout, engine.patch, real, say)
        host_image = images.ensure(self._client, images.HOST, say)
        vendor = images.ensure(self._client, engine.image, say)
        images.save(self._client, vendor, self.layout.tarball_of(vendor), say)
        parts.ensure_network(self._client)
        parts.ensure_volume(self._client, places.SHARE_VOLUME)
        if parts.ensure_upstream(self._client, host_image, self.layout.upstreams, say):
            say(f"upstreams served at git://{places.upstream_address()}/")
        numbers = range(1, count + 1)
        changed = [n for n in numbers if parts.ensure_node(self._client, n, host_image, say)]
        for number in numbers:
            self._let_in(number, public)
            if number in changed:
                say(f"{places.node_name(number)} is up at {places.node_address(number)}")
        self._ensure_weights(engine, vendor, say)
        return made

    def _let_in(self, number: int, public: str) -> None:
        """Wait for a host, let the key in, and see that it answers from here."""
        from r1deploy.lab import access
        from r1deploy.lab import hosts as parts

        host, address = places.node_name(number), places.node_address(number)
        parts.wait_ready(self._client, places.container_name(host))
        access.authorize(self._client, places.container_name(host), public)
        if not answers(address, 22):
            raise LabError(
                f"{host} runs, but {address} does not answer from here",
                "another network here may have the same addresses (ip route); R1DEPLOY_LAB_NETWORK names others",
            )

    def _ensure_weights(self, engine: Engine, image: str, say: Say) -> None:
        from r1deploy.lab import standinweights

        first = places.container_name(places.node_name(1))
        if engine.random_weights:
            standinweights.ensure_random(self._client, first, engine.weights, image, say)
        else:
            standinweights.ensure(self._client, first, engine.weights)

    def _write_files(self, count: int, made: Made, engine: Engine) -> None:
        from r1deploy.lab import access

        access.write_known_hosts(self._client, self.layout, count)
        access.write_hostfile(self.layout, count)
        access.write_settings(self.layout, count, made, engine)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One ``up`` or ``down`` at a time on this machine: labs share its packages, its engine and their images.

        The lock goes with the process that holds it.
        """
        place = places.machine_folder()
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lab.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def limit(self, limits: Limits, say: Say = show) -> None:
        """Limit the hosts' links both ways, and what this machine sends, until the next ``up``. Raises LabError."""
        from r1deploy.lab import links

        with self._alone():
            links.limit(self._need(), self.layout.link, limits)
        say(f"links limited: {', '.join(limits.words())}")

    def down(self, say: Say = show) -> None:
        """Remove containers, volumes and network; stop the engine if the lab started it."""
        from r1deploy.lab import hosts as parts

        if not self.layout.folder.is_dir():
            say("there is no lab")
            return
        with self._alone():
            client = thismachine.client()
            if client is not None:
                parts.remove_all(client, say)
                client.close()
            self._client = None
            thismachine.stop_engine(say)
        say("lab is down; images and keys are kept")

    def status(self) -> dict[str, Any]:
        """What is there: {engine, hosts, upstream, folder}."""
        self._client = thismachine.client()
        if self._client is None:
            return {"engine": None, "hosts": [], "upstream": None, "folder": str(self.folder)}
        from r1deploy.lab import hosts as parts

        upstream = parts.find(self._client, places.UPSTREAM)
        up = upstream is not None and upstream.status == "running"
        return {
            "engine": str(self._client.version().get("Version", "")),
            "hosts": [self._host_status(host) for host in self.hosts()],
            "upstream": {"address": places.upstream_address(), "up": up} if upstream is not None else None,
            "folder": str(self.folder),
        }

    def _host_status(self, host: LabHost) -> dict[str, Any]:
        from r1deploy.lab import hosts as parts
        from r1deploy.lab import links

        container = parts.find(self._client, host.container)
        up = container is not None and container.status == "running"
        engine = up and self.exec(host.name, "docker", "version", "--format", "{{.Server.Version}}")
        return {
            "name": host.name,
            "address": host.address,
            "up": up,
            "ssh": up and answers(host.address, 22),
            "engine": engine[1].strip() if engine and engine[0] == 0 else None,
            "link": links.shown(self._client, host.container) if up else None,
        }

    def bring_torch(self, say: Say = show) -> str:
        """PyTorch's CPU build onto the share of a lab that is up; the PYTHONPATH that a container takes it by.

        Raises LabError; WheelsMissing where it cannot be had.
        """
        from r1deploy.lab import torchshare

        with self._alone():
            torchshare.ensure(self._need(), places.container_name(places.node_name(1)), say)
        return f"{places.SHARE_IN_CONTAINER}/{torchshare.folder()}"

    def hosts(self) -> list[LabHost]:
        """The hosts there are, up or not, in the order of their numbers."""
        containers = self._need().containers.list(all=True, filters={"label": f"{places.LABEL}=host"})
        numbers = sorted(int(item.name.rpartition("node")[2]) for item in containers)
        return [LabHost(places.node_name(n), places.node_address(n)) for n in numbers]

    def exec(self, host: str, *argv: str, stdin: bytes | None = None) -> tuple[int, str]:
        """Run a command in a host through the outer engine: works when its sshd does not."""
        from r1deploy.lab import hosts as parts

        return parts.execute(self._need(), places.container_name(host), list(argv), stdin)

    def ssh(self, host: str, *argv: str, user: str = "root") -> list[str]:
        """The ssh command line that runs ``argv`` in a host."""
        from r1deploy.lab import access

        address = next((item.address for item in self.hosts() if item.name == host), host)
        return access.ssh_argv(self.layout, address, argv, user)

    def reboot(self, host: str) -> None:
        """Restart a host: containers of its engine are stopped, sshd and engine come back."""
        from r1deploy.lab import hosts as parts
        from r1deploy.lab import links

        container = parts.find(self._need(), places.container_name(host))
        if container is None:
            raise LabError(f"there is no host {host}")
        container.restart(timeout=8)
        parts.wait_ready(self._need(), places.container_name(host))
        links.again(self._need(), self.layout.link)

    def halt(self, host: str) -> None:
        """Pull a host's plug; ``up`` starts it again."""
        self._need().api.kill(places.container_name(host))

    def set_chips(self, host: str, **how: Any) -> None:
        """Make a host's chips sick; without arguments: healthy again.

        ``count=15``, ``used={3: 9000}`` (MiB), ``unknown=[2]`` (prints
        ``GPU-?????``), ``driver="4.1.0"``, ``cuda="N/A"``, ``name="…"``,
        ``no_device=True`` ("No supported GPUs found"), ``hang=60`` (seconds),
        ``missing=True`` (no ixsmi on the host), ``nodes=15`` (device nodes;
        as many as ``count`` unless given).
        """
        missing = bool(how.pop("missing", False))
        count = int(how.get("count", places.CHIPS))
        nodes = int(how.pop("nodes", count))
        self._write_json(host, CHIPS_FILE, {"count": count, **how})
        away = f"{IXSMI}.away"
        move = f"test -e {away} || mv {IXSMI} {away}" if missing else f"test ! -e {away} || mv {away} {IXSMI}"
        script = f"""{move}
        for n in $(seq 0 {max(places.CHIPS, nodes) - 1}); do
            if [ $n -lt {nodes} ]; then [ -e /dev/iluvatar$n ] || mknod -m 0666 /dev/iluvatar$n c 511 $n
            else rm -f /dev/iluvatar$n; fi
        done"""
        self._check(host, script)

    def set_engine_fault(self, host: str, fault: str | None, **how: Any) -> None:
        """Make the light engine of a host fail (see ``FAULTS``); None: well again.

        ``no-tokens`` and ``reasoning`` (all of an answer is reasoning) take hold while it serves.
        ``load_seconds=…`` changes how long it loads, with or without a fault.
        """
        if fault is not None and fault not in FAULTS:
            raise LabError(f"no such fault: {fault}", f"one of {', '.join(FAULTS)}")
        if fault is None and not how:
            self._check(host, f"rm -f {ENGINE_FILE}")
        else:
            self._write_json(host, ENGINE_FILE, {"fault": fault, **how})

    def set_flaggems(self, host: str, fault: str | None, **how: Any) -> None:
        """Make the stand-in FlagGems of a host fail (see ``GEMS_FAULTS``); None: well again. It needs torch.

        ``functions=["gather"]`` names those at fault; ``after=3``: the calls that are right before an ``assert``.
        """
        if fault is not None and fault not in GEMS_FAULTS:
            raise LabError(f"no such fault: {fault}", f"one of {', '.join(GEMS_FAULTS)}")
        self._write_json(host, FLAGGEMS_FILE, {"fault": fault, **how})

    def set_torch(self, host: str, chips: int = 1, wrong: Sequence[int] = (), once_in: int = 1) -> None:
        """What PyTorch on the CPU is on a host: so many chips.

        The ``wrong`` ones err by one bit in one of ``once_in`` products.
        """
        self._write_json(host, TORCH_FILE, {"chips": chips, "wrong": list(wrong), "once_in": once_in})

    def _write_json(self, host: str, path: str, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        code, output = self.exec(host, "sh", "-c", f"cat > {path}.new && mv {path}.new {path}", stdin=data)
        if code != 0:
            raise LabError(f"{host}: cannot write {path}", evidence=output)

    def _check(self, host: str, script: str) -> str:
        code, output = self.exec(host, "sh", "-c", script)
        if code != 0:
            raise LabError(f"{host}: failed with code {code}", evidence=output)
        return output

    def _need(self) -> Any:
        if self._client is None:
            self._client = thismachine.need_client()
        return self._client


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False
