"""What the probe found, as types. The probe's JSON is checked here; what is missing is an error, not "nothing".

A host's word is data: numbers are such as a machine has, names fit into a path and a label, texts are not endless.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from r1deploy.modes import is_known

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")
PROGRAM = re.compile(r"/[A-Za-z0-9._+/-]{1,254}")
PUBLIC_KEY = re.compile(r"[a-z][A-Za-z0-9@.-]* [A-Za-z0-9+/_-]+=*")


def _like(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(found: str) -> str:
        if not pattern.fullmatch(found):
            raise ValueError(f"it is not {what}")
        return found

    return AfterValidator(check)


def _a_place(found: dict[str, str]) -> dict[str, str]:
    if set(found) != {"release", "config"}:
        raise ValueError("it is not a release and a configuration")
    return found


def _a_leftover(found: str) -> str:
    if not found.startswith("/") or "/../" in found or not NAME.fullmatch(found.rpartition("/")[2]):
        raise ValueError("it is not the path of a file of ours")
    return found


def _a_mode(found: str) -> str:
    if not is_known(found):
        raise ValueError("it is no way of serving")
    return found


# What a machine may have of anything; a float holds it exactly.
Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=2**33, allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=4096)]
Program = Annotated[str, _like(PROGRAM, "an absolute path of letters, digits, dots and dashes")]
Port = Annotated[int, Field(ge=1, le=65535)]
# A part of a path, a label, a container's name.
Name = Annotated[str, _like(NAME, "a name of letters, digits, dots and dashes")]
Address = Annotated[str, _like(ADDRESS, "a host's name or address")]
PublicKey = Annotated[str, Field(max_length=16384), _like(PUBLIC_KEY, "a public key")]
ModeName = Annotated[str, AfterValidator(_a_mode)]
Place = Annotated[dict[str, Name], AfterValidator(_a_place)]
Leftover = Annotated[Text, AfterValidator(_a_leftover)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Part(BaseModel):
    """Base: frozen, and keys that a newer probe adds are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


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
    """One part of the install record: the tree it came from, and whether what was proven still stands."""

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


class TreeState(Part):
    """A tree against its manifest: ``bad`` names the first files that differ."""

    digest: Text
    bad: tuple[Text, ...]
    bad_count: Count
    files: Count


class RecordHost(Part):
    """A host as a configuration was written for it."""

    name: Text
    address: Address
    slots: Count
    files: dict[Text, Text]


class Record(Part):
    """``release.json`` beside a configuration: what has to be in place to serve it again.

    ``hosts`` head first; ``files`` of a host: name → sha256 (``release.json`` itself left out).
    """

    release: Name
    config: Name
    image: Text | None
    trees: tuple[Name, ...]
    commits: dict[Text, Text]
    container: Name
    service: Text
    mode: ModeName
    model: Text
    port: Port
    ssh_port: Port
    hosts: tuple[RecordHost, ...]


class ReleaseState(Part):
    """Configuration folders of a release: ``{config id: {file: (sha256, mode)}}``, and their records."""

    configs: dict[Name, dict[Text, tuple[Text | None, Text]]]
    records: dict[Name, Record | None]

    @field_validator("records", mode="before")
    @classmethod
    def _readable(cls, found: Any) -> Any:
        """A record that was edited into another shape is drift of a file, not a probe that failed."""
        if not isinstance(found, dict):
            return found
        return {name: row if _fits(Record, row) else None for name, row in found.items()}


def _fits(kind: type[BaseModel], row: Any) -> bool:
    try:
        kind.model_validate(row)
    except ValidationError:
        return False
    return True


class Active(Part):
    """What ``serve`` made active, whether it passed the gate, and what was active before.

    ``answered`` is when the gate saw its token, ``seconds`` how long that start took.
    """

    release: Name
    config: Name
    since: Text | None = None
    proven: bool = False
    previous: Place | None = None
    answered: Text | None = None
    seconds: Seconds | None = None


class Trust(Part):
    """The head's key and the files beside it."""

    public_key: Text | None
    files: dict[Text, tuple[Text | None, Text]]


class RunLine(Part):
    """One run that touched the host."""

    id: Text
    time: Text
    verb: Text
    who: Text
    source: Text = Field(alias="from")
    result: Text
    release: Text | None = None


class LockInfo(Part):
    """Who holds the cluster: ``since`` and ``beat`` in seconds of the head's clock."""

    id: Text
    who: Text
    source: Text = Field(alias="from")
    verb: Text
    doing: Text | None
    since: Seconds
    beat: Seconds


class State(Part):
    """Our folder on the host."""

    exists: bool
    free_gib: Size
    bin: dict[Text, Text | None]
    folders: dict[Text, Text | None]
    trees: dict[Name, TreeState | None]
    sources: dict[Text, Text | None]
    releases: dict[Name, ReleaseState]
    active: Active | None
    trust: Trust
    leftovers: tuple[Leftover, ...]
    history: tuple[RunLine, ...]

    @field_validator("history", mode="before")
    @classmethod
    def _lines(cls, found: Any) -> Any:
        """A line that was edited into another shape tells nothing of a run."""
        return [row for row in found if _fits(RunLine, row)] if isinstance(found, list | tuple) else found


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
    why: dict[Text, Text] = {}
    outside: dict[Text, Text] = {}
    content: Text | None = None


class Observed(Part):
    """One host as the probe saw it; ``problems``: parts of OPTIONAL that it could not see, and why."""

    schema_: Literal[1] = Field(alias="schema")
    problems: dict[Text, Text] = {}
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
    found = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    return f"{where}: {found['msg']}"[:1000] if where else str(found["msg"])[:1000]
