"""r1deploy starts Ray on every host, and ``vllm serve`` on the head."""

from __future__ import annotations

from collections.abc import Iterator

from r1deploy.cluster.host import Host
from r1deploy.modes.base import BACKEND, Mode, Source, command_line
from r1deploy.settings.model import Engine, Scalar, Settings


class RayVllm(Mode):
    """vLLM over many hosts without FlagScale: no host logs in to another."""

    name = "ray+vllm"
    play = "serve_rayvllm.yml"

    def files(self, settings: Settings, host: Host) -> Iterator[Source]:
        """The script of Ray on every host, that of the engine on the head."""
        if host.is_head:
            words = command_line(self.arguments(settings.engine))
            yield Source("serve.sh", "serve.sh.j2", {"host": host, "arguments": words})
        yield Source("ray.sh", "ray.sh.j2", {"host": host})

    def needs_ray(self, hosts: int) -> bool:
        """Always."""
        return True

    def ports(self, settings: Settings) -> dict[str, int]:
        """Ray's too."""
        return {**super().ports(settings), "service.ray_port": settings.service.ray_port}

    def arguments(self, engine: Engine) -> dict[str, Scalar]:
        """The engine spreads over Ray, unless ``engine.extra`` says otherwise."""
        return {BACKEND: "ray"} | super().arguments(engine)
