"""What a way of serving answers."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from r1deploy.cluster.host import Host
from r1deploy.settings.model import Engine, Scalar, Settings


@dataclass(frozen=True)
class Source:
    """A file of a host's configuration: its name there, its template, and what that gets beside the common words."""

    file: str
    template: str
    words: Mapping[str, object] = field(default_factory=dict)


class Mode(abc.ABC):
    """One way of serving; its subclasses are found by their name in ``service.mode``."""

    name: ClassVar[str]
    # The playbook that puts a release in place and starts it.
    play: ClassVar[str]
    # Whether the head's container has to run commands in the workers' containers.
    trusts: ClassVar[bool] = False
    # None: any number.
    most_hosts: ClassVar[int | None] = None
    # Why no other Ray or engine may live on the hosts.
    alone: ClassVar[str] = "they would share chips and ports"

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        MODES[cls.name] = cls()

    @abc.abstractmethod
    def files(self, settings: Settings, host: Host) -> Iterator[Source]:
        """What a host's configuration holds beside its environment."""

    @abc.abstractmethod
    def needs_ray(self, hosts: int) -> bool:
        """Whether the service has a node of Ray on every host. In: how many hosts it has."""

    @property
    def has_ray(self) -> bool:
        """Whether Ray runs at all, on however many hosts."""
        return self.needs_ray(2)

    def ports(self, settings: Settings) -> dict[str, int]:
        """Ports on the head that have to be free before a start, by their settings; the API's first."""
        return {"engine.port": settings.engine.port}

    def arguments(self, engine: Engine) -> dict[str, Scalar]:
        """The engine's arguments by their names: every setting of ``engine``, then ``engine.extra``."""
        return engine.model_dump(exclude={"extra"}, exclude_none=True) | engine.extra

    def faults(self, settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
        """Settings that do not go with this way: where, and what is wrong."""
        yield from ()


MODES: dict[str, Mode] = {}
# The engine's argument for what spreads it over many chips.
BACKEND = "distributed_executor_backend"


def command_line(arguments: Mapping[str, Scalar]) -> list[str]:
    """What follows ``vllm serve``, as FlagScale makes it of serve.yaml: the model, then a flag an argument."""
    words = [str(arguments["model"])]
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if name == "model":
            continue
        if isinstance(value, bool):
            words += [flag] if value else []
        else:
            words += [flag, str(value)]
    return words
