"""Templates to bytes: FlagScale's three configuration files or the scripts of other modes, each host's environment.

Roles only copy what is rendered here, so that the plan compares the true bytes.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from r1deploy import content
from r1deploy.cluster.host import Host
from r1deploy.planning.desired import File
from r1deploy.planning.interfaces import value_of
from r1deploy.planning.observed import Record
from r1deploy.planning.release import Inputs, Release
from r1deploy.settings.model import Engine, Settings

SECRET = "api_key.sh"
RECORD = "release.json"
ENV = "env.sh"
MODES = {ENV: "0600", SECRET: "0600"}
# Scripts of the modes without FlagScale: the engine on the head, Ray on every host.
START, RAY = "serve.sh", "ray.sh"


@dataclass(frozen=True)
class Rendered:
    """The configuration of all hosts: its id, and the bytes of each file by host."""

    id: str
    files: Mapping[str, Mapping[str, bytes]]

    def wanted(self) -> dict[str, dict[str, File]]:
        """sha256 and mode of each file by host, as the planner compares them."""
        return {
            host: {
                name: File(hashlib.sha256(data).hexdigest(), MODES.get(name, "0644")) for name, data in files.items()
            }
            for host, files in self.files.items()
        }


def environment() -> Environment:
    """Jinja2 as strict as it gets; ``shell`` quotes a value for sh."""
    found = Environment(
        loader=FileSystemLoader(str(content.TEMPLATES)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    found.filters["shell"] = lambda value: shlex.quote(str(value))
    return found


def render(
    settings: Settings,
    hosts: tuple[Host, ...],
    release: Release,
    inputs: Inputs,
    nics: Mapping[str, str | None],
    api_key: str | None = None,
) -> Rendered:
    """Render the configuration of a release.

    In: the hosts, head first; what the lock resolved to; host name → interface that
    carries its address; the API key, which goes to the head alone.
    The folder's name is a hash of what stands in it, so the files are rendered
    twice: once to name the folder, once with the name.
    """
    first = _files(settings, hosts, release, inputs, nics, api_key, "CONFIG")
    whole = hashlib.sha256()
    for host in sorted(first):
        for name, data in sorted(first[host].items()):
            whole.update(f"{host}\0{name}\0{len(data)}\0".encode() + data)
    identity = whole.hexdigest()[:12]
    return Rendered(identity, _files(settings, hosts, release, inputs, nics, api_key, identity))


def recognized(
    settings: Settings,
    hosts: tuple[Host, ...],
    release: Release,
    inputs: Inputs,
    nics: Mapping[str, str | None],
    api_key: str | None,
    records: Iterable[Record],
) -> Rendered | None:
    """The configuration although the interface of some hosts is not known, where a record equals it in all else.

    In: as ``render``, with ``nics`` of the hosts that answered; the records that these hold. None: nobody knows it.
    """
    for record in records:
        files = _texts(settings, hosts, release, nics, api_key, record.config)
        digests, theirs = _digests(files), {host.name: host.files for host in record.hosts}
        for name in files.keys() - nics.keys():
            digests[name][ENV] = theirs.get(name, {}).get(ENV, "")
        data = record_of(settings, hosts, release, inputs, record.config, digests)
        if Record.model_validate_json(data) == record:
            return Rendered(record.config, {name: {**rows, RECORD: data} for name, rows in files.items()})
    return None


def _digests(files: Mapping[str, Mapping[str, bytes]]) -> dict[str, dict[str, str]]:
    """sha256 of each file by host."""
    return {
        host: {name: hashlib.sha256(data).hexdigest() for name, data in sorted(rows.items())}
        for host, rows in files.items()
    }


def ssh_port_of(hosts: tuple[Host, ...]) -> int:
    """The port of the workers' sshd: FlagScale has one setting for them all."""
    return min({host.port or 22 for host in hosts[1:]}, default=22)


def _files(
    settings: Settings,
    hosts: tuple[Host, ...],
    release: Release,
    inputs: Inputs,
    nics: Mapping[str, str | None],
    api_key: str | None,
    identity: str,
) -> dict[str, dict[str, bytes]]:
    """All files by host, the record among them."""
    found = _texts(settings, hosts, release, nics, api_key, identity)
    record = record_of(settings, hosts, release, inputs, identity, _digests(found))
    return {name: {**files, RECORD: record} for name, files in found.items()}


def _texts(
    settings: Settings,
    hosts: tuple[Host, ...],
    release: Release,
    nics: Mapping[str, str | None],
    api_key: str | None,
    identity: str,
) -> dict[str, dict[str, bytes]]:
    """All files by host but the record."""
    templates = environment()
    top = f"{settings.state_dir}/releases/{release.id}"
    common = {
        "service": settings.service,
        "engine": settings.engine,
        "chip": settings.chip,
        "container": settings.container.name,
        "folder": f"{top}/config/{identity}",
        "outputs": f"{top}/outputs/{settings.service.name}",
        "ssh_port": ssh_port_of(hosts),
        "hosts": hosts,
    }

    def text(template: str, **more: object) -> bytes:
        return templates.get_template(template).render(**common, **more).encode()

    name, mode = settings.service.name, settings.service.mode
    found: dict[str, dict[str, bytes]] = {}
    for host in hosts:
        files: dict[str, bytes] = {}
        if host.is_head and mode == "flagscale":
            files[f"config_{name}.yaml"] = text("config.yaml.j2")
            files[f"serve/{name}.yaml"] = text("serve.yaml.j2")
            files["hostfile.txt"] = text("hostfile.txt.j2")
        elif host.is_head:
            files[START] = text("serve.sh.j2", host=host, arguments=engine_arguments(settings.engine, mode))
        if mode == "ray+vllm":
            files[RAY] = text("ray.sh.j2", host=host)
        env = {key: value_of(key, value, nics.get(host.name)) for key, value in settings.env.items()}
        secret = bool(api_key) and host.is_head
        found[host.name] = {
            **files,
            ENV: text("env.sh.j2", host=host, env=env, secret=secret),
            **({SECRET: f"export VLLM_API_KEY={shlex.quote(api_key or '')}\n".encode()} if secret else {}),
        }
    return found


def record_of(
    settings: Settings,
    hosts: tuple[Host, ...],
    release: Release,
    inputs: Inputs,
    identity: str,
    digests: Mapping[str, Mapping[str, str]],
) -> bytes:
    """``release.json``, the same on all hosts: what has to be in place to serve this configuration again.

    In: host → file → sha256.
    """
    record = {
        "release": release.id,
        "config": identity,
        "image": inputs.image_id,
        "trees": [release.flaggems.name, release.flagscale.name],
        "commits": {"flaggems": inputs.flaggems_commit, "flagscale": inputs.flagscale_commit},
        "container": settings.container.name,
        "service": settings.service.name,
        "mode": settings.service.mode,
        "model": settings.engine.served_model_name,
        "port": settings.engine.port,
        "ssh_port": ssh_port_of(hosts),
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "slots": host.slots,
                "files": dict(digests[host.name]),
            }
            for host in hosts
        ],
    }
    return (json.dumps(record, indent=2) + "\n").encode()


def engine_arguments(engine: Engine, mode: str) -> list[str]:
    """What follows ``vllm serve``, as FlagScale makes it of serve.yaml: the model, then a flag an argument."""
    given = engine.model_dump(exclude={"model", "extra"}) | engine.extra
    if mode == "ray+vllm":
        given = {"distributed_executor_backend": "ray"} | given
    words = [engine.model]
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [flag] if value else []
        else:
            words += [flag, str(value)]
    return words
