"""``flagscale serve`` on the head: it starts Ray on the workers over SSH, then the engine."""

from __future__ import annotations

from collections.abc import Iterator

from r1deploy.cluster.host import Host
from r1deploy.modes.base import Mode, Source
from r1deploy.settings.model import Settings


class FlagScale(Mode):
    """The vendor's way."""

    name = "flagscale"
    play = "serve_flagscale.yml"
    trusts = True
    alone = "the start of FlagScale would kill them"

    def files(self, settings: Settings, host: Host) -> Iterator[Source]:
        """FlagScale's three files, on the head."""
        if host.is_head:
            name = settings.service.name
            # A flag that is off is left out: the engine's own has no word for it.
            given = {key: value for key, value in self.arguments(settings.engine).items() if not is_off(settings, key)}
            yield Source(f"config_{name}.yaml", "config.yaml.j2")
            yield Source(f"serve/{name}.yaml", "serve.yaml.j2", {"arguments": given})
            yield Source("hostfile.txt", "hostfile.txt.j2")

    def needs_ray(self, hosts: int) -> bool:
        """On one host it may do without."""
        return hosts > 1


def is_off(settings: Settings, name: str) -> bool:
    """Whether a setting of ``engine`` is a flag that is off; what ``engine.extra`` says is passed as it is."""
    return name not in settings.engine.extra and getattr(settings.engine, name) is False
