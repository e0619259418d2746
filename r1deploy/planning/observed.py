"""What the probe found, as types. The probe's JSON is checked here; what is missing is an error, not "nothing".

A host's word is data: numbers are such as a machine has, names fit into a path and a label, texts are not endless.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from r1deploy.planning.border import Count, Digest, Name, Part, Program, PublicKey, Seconds, Size, Text
from r1deploy.planning.recorded import LockInfo, State


class Machine(Part):
    """Identity, Python (its version, and where it is), rights and clock of a host."""

    hostname: Text
    machine_id: Text | None
    boot_id: Text | None = None
    arch: Text
    python: Text
    interpreter: Program | None = None
    time: Seconds
    user: Text
    login: Text
    sudo: bool
    tools: dict[str, bool]


class Net(Part):
    """The interface that carries the host's address, all interfaces, and taken ports of those asked about."""

    address: Text
    ip: Text | None
    nic: Text | None
    nics: tuple[Text, ...]
    hostname_ip: Text | None
    ports_taken: tuple[Count, ...]


class Memory(Part):
    """MiB; ``shm_mib`` is the size of the host's /dev/shm."""

    total_mib: Count
    available_mib: Count
    shm_mib: Count


class Chip(Part):
    """One accelerator chip; a sick one has a name the smi tool could not give."""

    index: Count
    name: Text
    memory_mib: Count
    used_mib: Count


class Chips(Part):
    """All chips of a host; ``error`` says why there are none."""

    devices: Count
    pci: Count
    chips: tuple[Chip, ...]
    driver: Text | None
    error: Text | None


class Engine(Part):
    """The Docker Engine; ``error`` says why it does not answer, ``isolated`` how it keeps root in a container away."""

    ok: bool
    version: Text | None = None
    isolated: Literal["userns", "rootless"] | None = None
    root: Text | None = None
    free_gib: Size = 0
    error: Text | None = None


class Image(Part):
    """The image that has the wanted name; ``digests`` are those of its manifest, as registries know it."""

    id: Digest
    arch: Text | None = None
    digests: tuple[Digest, ...] = ()


class Installed(Part):
    """One part of the install record: the tree it came from, and whether what was verified still stands."""

    tree: Text | None
    version: Text | None
    intact: bool


class InstallRecord(Part):
    """The install record inside a container."""

    parts: dict[str, Installed]


class Container(Part):
    """A container of this cluster, or a stranger that holds our name (``cluster`` is not ours)."""

    name: Name
    id: Name
    image: Text
    running: bool
    paused: bool
    started_at: Text | None
    cluster: Text | None
    release: Name | None
    spec: dict[Text, bool | Count | Text | list[Text] | None]
    installed: InstallRecord | None


class Ssh(Part):
    """The host's public keys, and our lines in the trusted user's authorized_keys."""

    host_keys: tuple[PublicKey, ...]
    authorized: tuple[Annotated[str, Field(max_length=65536)], ...]


class Foreign(Part):
    """A Ray or engine process that is not ours."""

    pid: Count
    command: Text
    container: Text | None


class Raylet(Part):
    """A Ray node process in one of our containers."""

    pid: Count
    container: Name
    gcs: Text | None


class EngineProcess(Part):
    """An engine process in one of our containers."""

    pid: Count
    container: Name


class Processes(Part):
    """Processes of Ray and the engine on a host."""

    foreign: tuple[Foreign, ...]
    raylets: tuple[Raylet, ...]
    engines: tuple[EngineProcess, ...]


class Service(Part):
    """What answers on a port of this host: the one of what is active there, else the one of the settings."""

    port: Count
    health: Count | None
    models: tuple[Text | None, ...]


class Weights(Part):
    """The checkpoint against its index; ``sum`` is equal on hosts that hold the same, as far as headers tell.

    ``outside`` is where the links of files lead (``.``: the folder itself) that the container will not find.
    ``why`` says what is wrong with a shard of ``bad``; ``content`` is a digest of the
    bytes, known where ``weights verify`` read them and no file changed since.
    """

    path: Text
    exists: bool
    index: bool = False
    config: bool = False
    shards: Count
    missing: tuple[Text, ...]
    bad: tuple[Text, ...]
    bytes: Count
    sum: Text | None = None
    layers: Annotated[int, Field(ge=1, le=10**6)] | None = None
    why: dict[Text, Text] = Field(default_factory=dict)
    outside: dict[Text, Text] = Field(default_factory=dict)
    content: Text | None = None


class Observed(Part):
    """One host as the probe saw it; ``problems``: parts of OPTIONAL that it could not see, and why."""

    schema_: Literal[1] = Field(alias="schema")
    problems: dict[Text, Text] = Field(default_factory=dict)
    host: Machine
    net: Net
    memory: Memory = Memory(total_mib=0, available_mib=0, shm_mib=0)
    chips: Chips = Chips(devices=0, pci=0, chips=(), driver=None, error="the probe could not look at the chips")
    engine: Engine
    image: Image | None
    containers: tuple[Container, ...]
    state: State
    ssh: Ssh
    lock: LockInfo | None = None
    processes: Processes
    service: Service = Service(port=0, health=None, models=())
    weights: Weights | None = None

    def container_of(self, cluster: str, release: str) -> Container | None:
        """The container of a release of this cluster, under whatever name."""
        return next((row for row in self.containers if row.cluster == cluster and row.release == release), None)

    def container_named(self, name: str) -> Container | None:
        """The container that holds a name."""
        return next((row for row in self.containers if row.name == name), None)


# Parts without which the rest still says something: what fails there is a finding of preflight.
OPTIONAL: dict[str, TypeAdapter[Any]] = {
    "memory": TypeAdapter(Memory),
    "chips": TypeAdapter(Chips),
    "lock": TypeAdapter(LockInfo | None),
    "service": TypeAdapter(Service),
    "weights": TypeAdapter(Weights | None),
}


class Incomplete(ValueError):
    """An answer of the probe that cannot be used; the text says what of it."""


def observed_of(answer: object) -> Observed:
    """Read a host's answer, whatever it is. Raises Incomplete, and nothing else."""
    if not isinstance(answer, Mapping):
        raise Incomplete("the answer is empty")
    said = answer.get("problems")
    problems = {f"{part}"[:100]: f"{why}"[:1000] for part, why in said.items()} if isinstance(said, Mapping) else {}
    missing = [f"{part}: {why}" for part, why in problems.items() if part not in OPTIONAL]
    if missing:
        raise Incomplete("; ".join(missing))
    parts = {key: value for key, value in answer.items() if isinstance(key, str) and key not in problems}
    for part, kind in OPTIONAL.items():
        if part in parts:
            try:
                kind.validate_python(parts[part])
            except ValidationError as error:
                del parts[part]
                problems[part] = _first(error)
        elif part not in problems:
            problems[part] = "no answer"
    try:
        return Observed.model_validate({**parts, "problems": problems})
    except ValidationError as error:
        raise Incomplete(_first(error)) from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"[:1000] if where else str(first["msg"])[:1000]
