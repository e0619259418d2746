"""The typed settings: what ``r1deploy.yaml`` and a profile may say.

No value special to a vendor stands here: every such default comes from
``profiles/<name>.yaml``. Fields without a default must be given by the
profile or by the user. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Seconds = Annotated[StrictInt, Field(ge=1)]
AbsolutePath = Annotated[StrictStr, Field(pattern=r"^/\S*$")]
Name = Annotated[StrictStr, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$")]


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Ssh(Section):
    """How to reach the hosts where the inventory does not say it."""

    user: StrictStr | None = Field(None, description="login user; null: the inventory's, else your own")
    port: Port | None = Field(None, description="port of the hosts' sshd; null: the inventory's, else 22")
    key_file: StrictStr | None = Field(None, description="private key for the login; null: your SSH agent and defaults")
    known_hosts: StrictStr | None = Field(None, description="known_hosts file; null: your own")
    connect_timeout: Seconds = Field(10, description="seconds to wait for a connection")
    jump: StrictStr | None = Field(
        None,
        pattern=r"^([A-Za-z0-9_.][A-Za-z0-9_.-]*@)?[A-Za-z0-9_.][A-Za-z0-9_.-]*(:\d{1,5})?$",
        description="jump host [user@]host[:port] to all hosts; null: the inventory's, or ~/.ssh/config",
    )


class Image(Section):
    """The vendor's image and where it comes from."""

    name: StrictStr = Field(description="image name and tag")
    tarball: StrictStr | None = Field(
        None, description="docker-save file on this machine; null: pull from the registry"
    )
    sha256: StrictStr | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="expected sha256 of the tarball; null: recorded at first use"
    )
    registry_user: StrictStr | None = Field(None, description="login to the registry; null: none is needed")
    registry_password_file: StrictStr | None = Field(
        None, description="file here with the password or token for it (mode 0600); it is stored nowhere else"
    )


class Container(Section):
    """The container's `docker run` flags."""

    name: Name = Field(description="name of the active container")
    shm_size: StrictStr = Field(pattern=r"^\d+[kmgKMG]?$", description="--shm-size")
    interactive: StrictBool = Field(description="-i")
    tty: StrictBool = Field(description="-t")
    volumes: list[StrictStr] = Field(description="-v, host path:container path")
    privileged: StrictBool = Field(description="--privileged")
    cap_add: list[StrictStr] = Field(description="--cap-add")
    pid: StrictStr = Field(description="--pid")
    network: StrictStr = Field(description="--net")
    devices: list[StrictStr] = Field(
        default_factory=list, description="--device, host path[:container path[:permissions]]"
    )


class Source(Section):
    """A git repository and what to check out of it."""

    url: StrictStr = Field(description="git URL")
    ref: StrictStr = Field(min_length=1, description="branch, tag or commit; r1deploy.lock keeps the commit")


class Git(Section):
    """How git reaches its remotes."""

    instead_of: dict[str, str] = Field(
        default_factory=dict, description="URL prefix: mirror prefix, for clones on the builder and here"
    )
    mirrors: dict[str, AbsolutePath] = Field(
        default_factory=dict, description="URL: bare repository on this machine, which is brought to the builder"
    )


ProxyUrl = Annotated[StrictStr, Field(pattern=r"^(https?|socks5h?)://[^\s/]+/?$")]


class Site(Section):
    """What stands between the machines and the internet. Nothing of it is in a release's id or in r1deploy.lock."""

    http_proxy: ProxyUrl | None = Field(None, description="proxy for http:// URLs, here and on the builder")
    https_proxy: ProxyUrl | None = Field(None, description="proxy for https:// URLs, such as http://proxy:3128")
    no_proxy: StrictStr | None = Field(None, description="hosts and domains without a proxy, comma-separated")
    ca_bundle: StrictStr | None = Field(
        None, description="PEM file here with all CAs to trust, for git and pip; null: each machine's own"
    )
    pip_index_url: StrictStr | None = Field(
        None, pattern=r"^https?://\S+$", description="package index for pip in the container; null: the image's"
    )


class Patch(Section):
    """The vendor's patch, applied by FlagScale's unpatch.py."""

    commit: StrictStr = Field(
        pattern=r"^[0-9a-f]{40}$", description="FlagScale commit whose hardware/ folder holds the patch"
    )
    device_type: StrictStr = Field(description="--device-type")
    backends: list[StrictStr] = Field(
        description="--backend, in this order; []: no patch, FlagScale as it is and vLLM by vllm.install or the image"
    )
    task: StrictStr = Field(description="--task")
    encrypted: StrictBool = Field(description="whether the patch needs the vendor's key")
    key_dir: StrictStr | None = Field(None, description="folder here that holds private_key.pem (mode 0600)")


class Vllm(Section):
    """How vLLM is built (once, on the builder) and installed (everywhere)."""

    build: list[StrictStr] = Field(description="commands run in third_party/vllm of the patched tree, on the builder")
    install: list[StrictStr] = Field(description="commands run there on every host")
    timeout: Seconds = Field(7200, description="seconds a build may take")


class Python(Section):
    """The interpreter inside the image."""

    executable: StrictStr = Field("python3", description="Python inside the container")
    imports: list[StrictStr] = Field(
        default_factory=list, description="modules that must import in the container before the service starts"
    )


class Engine(Section):
    """Arguments of the inference engine."""

    model: AbsolutePath = Field(
        description="weights, as the container sees them; spelt as the folder is, also where that looks like a typo"
    )
    served_model_name: StrictStr = Field(description="model id of the API")
    tensor_parallel_size: Annotated[StrictInt, Field(ge=1)] = Field(description="tp: chips that share a layer")
    pipeline_parallel_size: Annotated[StrictInt, Field(ge=1)] = Field(description="pp: stages; tp × pp = chips")
    max_num_seqs: Annotated[StrictInt, Field(ge=1)] = Field(description="sequences in one batch")
    max_model_len: Annotated[StrictInt, Field(ge=1)] = Field(description="tokens of prompt and answer together")
    gpu_memory_utilization: Annotated[StrictFloat, Field(gt=0, le=1)] = Field(
        description="share of a chip's memory the engine may take"
    )
    port: Port = Field(description="port of the API on the head")
    trust_remote_code: StrictBool = Field(description="run the model's own code")
    extra: dict[str, Scalar] = Field(
        default_factory=dict,
        description="further engine arguments, scalars only (JSON as a quoted string)",
        examples=[{"dtype": "bfloat16", "swap_space": 16}],
    )


class Service(Section):
    """The running service and the gate that verifies it."""

    name: Name = Field(description="experiment name; names the configuration files")
    mode: Annotated[StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9+._-]*$")] = Field(
        "flagscale",
        description="what starts the engine: flagscale (flagscale serve), ray+vllm (r1deploy starts Ray on every host "
        "and vllm serve on the head), vllm (one host, without Ray)",
    )
    ray_port: Port = Field(6379, description="port of Ray on the head in the mode ray+vllm; FlagScale takes its own")
    envs: dict[str, Scalar] = Field(default_factory=dict, description="experiment.envs, seen by the head's engine only")
    join_timeout: Seconds = Field(60, description="seconds for all Ray nodes to join")
    ready_timeout: Seconds = Field(5400, description="seconds from start to the first answer")
    prompt: StrictStr = Field("Say hello in one sentence.", description="prompt of the gate's completion")
    max_tokens: Annotated[StrictInt, Field(ge=1, le=4096)] = Field(64, description="longest answer of the gate")
    api_key_file: StrictStr | None = Field(None, description="file here with the API key; null: no key is asked for")
    require_diag: StrictBool = Field(
        False, description="whether `serve` asks for a `diag` of this release that found nothing wrong"
    )


class Chip(Section):
    """What is special to the vendor's accelerator and its host software."""

    name_prefixes: list[StrictStr] = Field(min_length=1, description="names the smi tool may print, by prefix")
    smi: list[StrictStr] = Field(min_length=1, description="paths of the smi tool, first existing one wins")
    smi_env: dict[str, str] = Field(default_factory=dict, description="environment the smi tool needs")
    smi_query: list[StrictStr] = Field(description="arguments that print the chips; [] is the tool's own table")
    smi_pattern: StrictStr = Field(
        description="regular expression for one chip there, may span lines; groups index, name, memory and used (MiB); "
        "a match without them is a sick chip"
    )
    smi_list: list[StrictStr] = Field(description="arguments that print what tells a sick chip; [] is the table")
    smi_sick_pattern: StrictStr = Field(description="regular expression for a sick chip there; group 1 is its index")
    smi_version_pattern: StrictStr = Field(
        description="regular expression for the table: group 1 is the driver's version, group 2 the runtime's"
    )
    devices: StrictStr = Field(description="glob of the device nodes, one a chip")
    pci_vendor: StrictStr = Field(description="PCI vendor id")
    memory_mib: Annotated[StrictInt, Field(ge=1)] = Field(description="memory of one chip")
    idle_memory_mib: Annotated[StrictInt, Field(ge=0)] = Field(description="memory in use on an idle chip, at the most")
    hostfile_type: StrictStr = Field(description="`type` in FlagScale's hostfile")
    torch_device: Annotated[StrictStr, Field(pattern=r"^[a-z]{1,16}$")] = Field(
        "cuda", description="what PyTorch in the image calls the chip"
    )


class Disk(Section):
    """Free space preflight asks for, in GiB."""

    engine_gib: Annotated[StrictInt, Field(ge=0)] = Field(description="free on the Docker Engine's folder")
    state_gib: Annotated[StrictInt, Field(ge=0)] = Field(description="free under state_dir")


class Memory(Section):
    """Memory of a host that preflight asks for, in GiB."""

    available_gib: Annotated[StrictInt, Field(ge=0)] = Field(
        description="available before the start, for the build, the loading and the container's shm"
    )


class Weights(Section):
    """Where the checkpoint comes from, for `r1deploy weights pull`, and what it must hash to."""

    hub: Literal["modelscope", "huggingface"] = Field(description="hub that `weights pull` asks")
    repo: StrictStr = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="name of the checkpoint there, OWNER/NAME")
    revision: StrictStr | None = Field(None, description="branch, tag or commit there; null: the hub's default")
    env: dict[str, str] = Field(
        default_factory=dict, description="environment of the hub's client: HF_ENDPOINT, HTTPS_PROXY, HF_TOKEN, …"
    )
    manifest: StrictStr | None = Field(
        None, description="file here as sha256sum writes it; null: SHA256SUMS of the checkpoint, where there is one"
    )


class Diag(Section):
    """What `r1deploy diag` may take, and what it asks of the network."""

    chips_seconds: Seconds = Field(120, description="seconds for all chips of a host")
    kernels_seconds: Seconds = Field(900, description="seconds for all operators of a host, one round")
    operator_seconds: Seconds = Field(90, description="seconds for one operator, its compiler included")
    network_seconds: Seconds = Field(120, description="seconds for the network between all hosts")
    collective_seconds: Seconds = Field(120, description="seconds for the collectives of one library over all ranks")
    tokens: list[Annotated[StrictInt, Field(ge=1, le=1 << 17)]] | None = Field(
        None, description="tokens at which operators run; null: 1, 1009 and those of the engine's profiling run"
    )
    floor_gbit: StrictInt | StrictFloat | None = Field(
        None, description="Gbit/s of eight streams between two hosts at the least; null: half of what the others have"
    )
    clock_seconds: StrictInt | StrictFloat = Field(1.0, description="seconds that two hosts' clocks may differ")
    delay_ms: StrictInt | StrictFloat = Field(5.0, description="milliseconds that a round trip may take")


class Eval(Section):
    """How `r1deploy eval` asks the six sets."""

    data: StrictStr | None = Field(
        None,
        description="folder here with a folder a set, as `eval --fetch` writes; null: fetched from the hub once",
    )
    margin: Annotated[StrictInt | StrictFloat, Field(gt=0, le=100)] = Field(
        2.0, description="percentage points that a score may lie lower; stated before the run"
    )
    temperature: Annotated[StrictInt | StrictFloat, Field(ge=0, le=2)] = Field(0.6, description="sampling temperature")
    top_p: Annotated[StrictInt | StrictFloat, Field(gt=0, le=1)] = Field(0.95, description="nucleus sampling")
    max_tokens: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="tokens of an answer at the most; null: what max_model_len leaves, 32768 at the most"
    )
    batch: Annotated[StrictInt, Field(ge=1, le=4096)] = Field(32, description="questions that are asked at once")
    seed: Annotated[StrictInt, Field(ge=0, le=2**31)] = Field(
        42, description="seed of the first repeat; each further one has the next number"
    )
    against_key_file: StrictStr | None = Field(
        None, description="file here with the API key of the endpoint of `--against` (mode 0600); null: none is needed"
    )


class Settings(Section):
    """All settings of one cluster, merged and checked."""

    cluster: Name = Field("deepseek-r1", description="name of the cluster: lock, labels, history")
    profile: StrictStr = Field(
        min_length=1, description="vendor profile: a name, or a file beside this one (ends in .yaml)"
    )
    state_dir: AbsolutePath = Field("/var/lib/r1deploy", description="folder on every host that holds the releases")
    builder: StrictStr | None = Field(None, description="inventory name of the host that builds; null: the head")
    slots: Annotated[StrictInt, Field(ge=1)] = Field(description="chips a host, where the inventory does not say")
    ssh: Ssh = Field(default_factory=lambda: Ssh.model_validate({}), description="login to the hosts")
    image: Image = Field(description="the vendor's image")
    container: Container = Field(description="the container")
    flaggems: Source = Field(description="FlagGems")
    flagscale: Source = Field(description="FlagScale")
    git: Git = Field(default_factory=Git, description="how git reaches its remotes")
    site: Site = Field(
        default_factory=lambda: Site.model_validate({}), description="proxies, CAs and mirrors; the engine has its own"
    )
    patch: Patch = Field(description="the vendor's patch")
    vllm: Vllm = Field(description="building vLLM")
    python: Python = Field(default_factory=lambda: Python.model_validate({}), description="Python in the image")
    engine: Engine = Field(description="the inference engine")
    env: dict[str, str] = Field(
        description="environment on every node; `auto` for *_SOCKET_IFNAME: the NIC of the host's address"
    )
    service: Service = Field(description="the service")
    chip: Chip = Field(description="the accelerator")
    disk: Disk = Field(description="space on the hosts")
    memory: Memory = Field(description="memory of the hosts")
    weights: Weights = Field(description="the checkpoint's origin")
    diag: Diag = Field(default_factory=lambda: Diag.model_validate({}), description="the proofs of `r1deploy diag`")
    eval: Eval = Field(default_factory=lambda: Eval.model_validate({}), description="the benchmarks of `r1deploy eval`")


Precedence = Literal["flag", "environment", "file", "profile", "default"]
