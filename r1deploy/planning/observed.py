"""What the probe found, as types. The probe's JSON is checked here; what is missing is an error, not "nothing"."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator


class Part(BaseModel):
    """Base: frozen, and keys that a newer probe adds are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Machine(Part):
    """Identity, Python, rights and clock of a host."""

    hostname: str
    machine_id: str | None
    boot_id: str | None = None
    arch: str
    python: str
    time: float
    user: str
    login: str
    sudo: bool
    tools: dict[str, bool]


class Net(Part):
    """The interface that carries the host's address, all interfaces, and taken ports of those asked about."""

    address: str
    ip: str | None
    nic: str | None
    nics: tuple[str, ...]
    hostname_ip: str | None
    ports_taken: tuple[int, ...]


class Memory(Part):
    """MiB; ``shm_mib`` is the size of the host's /dev/shm."""

    total_mib: int
    available_mib: int
    shm_mib: int


class Chip(Part):
    """One accelerator chip; a sick one has a name the smi tool could not give."""

    index: int
    name: str
    memory_mib: int
    used_mib: int


class Chips(Part):
    """All chips of a host; ``error`` says why there are none."""

    devices: int
    pci: int
    chips: tuple[Chip, ...]
    driver: str | None
    error: str | None


class Engine(Part):
    """The Docker Engine; ``error`` says why it does not answer, ``isolated`` how it keeps root in a container away."""

    ok: bool
    version: str | None = None
    isolated: Literal["userns", "rootless"] | None = None
    root: str | None = None
    free_gib: float = 0
    error: str | None = None


class Image(Part):
    """The image that has the wanted name."""

    id: str
    arch: str | None = None


class Installed(Part):
    """One part of the install record: the tree it came from, and whether what was proven still stands."""

    tree: str | None
    version: str | None
    intact: bool


class InstallRecord(Part):
    """The install record inside a container."""

    parts: dict[str, Installed]


class Container(Part):
    """A container of this cluster, or a stranger that holds our name (``cluster`` is not ours)."""

    name: str
    id: str
    image: str
    running: bool
    paused: bool
    started_at: str | None
    cluster: str | None
    release: str | None
    spec: dict[str, Any]
    installed: InstallRecord | None


class TreeState(Part):
    """A tree against its manifest: ``bad`` names the first files that differ."""

    digest: str
    bad: tuple[str, ...]
    bad_count: int
    files: int


class RecordHost(Part):
    """A host as a configuration was written for it."""

    name: str
    address: str
    slots: int
    files: dict[str, str]


class Record(Part):
    """``release.json`` beside a configuration: what has to be in place to serve it again.

    ``hosts`` head first; ``files`` of a host: name → sha256 (``release.json`` itself left out).
    """

    release: str
    config: str
    image: str | None
    trees: tuple[str, ...]
    commits: dict[str, str]
    container: str
    service: str
    mode: str
    model: str
    port: int
    ssh_port: int
    hosts: tuple[RecordHost, ...]


class ReleaseState(Part):
    """Configuration folders of a release: ``{config id: {file: (sha256, mode)}}``, and their records."""

    configs: dict[str, dict[str, tuple[str | None, str]]]
    records: dict[str, Record | None]

    @field_validator("records", mode="before")
    @classmethod
    def _readable(cls, found: dict[str, Any]) -> dict[str, Any]:
        """A record that was edited into another shape is drift of a file, not a probe that failed."""
        return {name: row if _fits(row) else None for name, row in found.items()}


def _fits(row: Any) -> bool:
    try:
        Record.model_validate(row)
    except ValidationError:
        return False
    return True


class Active(Part):
    """What ``serve`` made active, whether it passed the gate, and what was active before.

    ``answered`` is when the gate saw its token, ``seconds`` how long that start took.
    """

    release: str
    config: str
    since: str | None = None
    proven: bool = False
    previous: dict[str, str] | None = None
    answered: str | None = None
    seconds: float | None = None


class Trust(Part):
    """The head's key and the files beside it."""

    public_key: str | None
    files: dict[str, tuple[str | None, str]]


class RunLine(Part):
    """One run that touched the host."""

    id: str
    time: str
    verb: str
    who: str
    source: str = Field(alias="from")
    result: str
    release: str | None = None


class LockInfo(Part):
    """Who holds the cluster: ``since`` and ``beat`` in seconds of the head's clock."""

    id: str
    who: str
    source: str = Field(alias="from")
    verb: str
    doing: str | None
    since: float
    beat: float


class State(Part):
    """Our folder on the host."""

    exists: bool
    free_gib: float
    bin: dict[str, str | None]
    folders: dict[str, str | None]
    trees: dict[str, TreeState | None]
    sources: dict[str, str | None]
    releases: dict[str, ReleaseState]
    active: Active | None
    trust: Trust
    leftovers: tuple[str, ...]
    history: tuple[RunLine, ...]


class Ssh(Part):
    """The host's public keys, and our lines in the trusted user's authorized_keys."""

    host_keys: tuple[str, ...]
    authorized: tuple[str, ...]


class Foreign(Part):
    """A Ray or engine process that is not ours."""

    pid: int
    command: str
    container: str | None


class Raylet(Part):
    """A Ray node process in one of our containers."""

    pid: int
    container: str
    gcs: str | None


class EngineProcess(Part):
    """An engine process in one of our containers."""

    pid: int
    container: str


class Processes(Part):
    """Processes of Ray and the engine on a host."""

    foreign: tuple[Foreign, ...]
    raylets: tuple[Raylet, ...]
    engines: tuple[EngineProcess, ...]


class Service(Part):
    """What answers on a port of this host: the one of what is active there, else the one of the settings."""

    port: int
    health: int | None
    models: tuple[str | None, ...]


class Weights(Part):
    """The checkpoint against its index; ``sum`` is equal on hosts that hold the same, as far as headers tell.

    ``outside`` is where the links of files lead (``.``: the folder itself) that the container will not find.
    ``why`` says what is wrong with a shard of ``bad``; ``content`` is a digest of the
    bytes, known where ``weights verify`` read them and no file changed since.
    """

    path: str
    exists: bool
    index: bool = False
    config: bool = False
    shards: int
    missing: tuple[str, ...]
    bad: tuple[str, ...]
    bytes: int
    sum: str | None = None
    layers: int | None = None
    why: dict[str, str] = {}
    outside: dict[str, str] = {}
    content: str | None = None


class Observed(Part):
    """One host as the probe saw it."""

    schema_: Literal[1] = Field(alias="schema")
    host: Machine
    net: Net
    memory: Memory
    chips: Chips
    engine: Engine
    image: Image | None
    containers: tuple[Container, ...]
    state: State
    ssh: Ssh
    lock: LockInfo | None
    processes: Processes
    service: Service
    weights: Weights | None

    def container_of(self, cluster: str, release: str) -> Container | None:
        """The container of a release of this cluster, under whatever name."""
        return next((row for row in self.containers if row.cluster == cluster and row.release == release), None)

    def container_named(self, name: str) -> Container | None:
        """The container that holds a name."""
        return next((row for row in self.containers if row.name == name), None)
