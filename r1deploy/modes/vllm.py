"""``vllm serve`` on one host, without Ray."""

from __future__ import annotations

from collections.abc import Iterator

from r1deploy.cluster.host import Host
from r1deploy.modes.base import BACKEND, Mode, Source, command_line
from r1deploy.settings.model import Settings


class Vllm(Mode):
    """The engine by itself."""

    name = "vllm"
    play = "serve_vllm.yml"
    most_hosts = 1

    def files(self, settings: Settings, host: Host) -> Iterator[Source]:
        """The script of the engine."""
        if host.is_head:
            words = command_line(self.arguments(settings.engine))
            yield Source("serve.sh", "serve.sh.j2", {"host": host, "arguments": words})

    def needs_ray(self, hosts: int) -> bool:
        """Never."""
        return False

    def faults(self, settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
        """The engine cannot be told to spread over Ray."""
        if settings.engine.extra.get(BACKEND) == "ray":
            yield ("engine", "extra", BACKEND), "service.mode vllm is without Ray; write null, or mp"
