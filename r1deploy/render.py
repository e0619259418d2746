"""Templates to bytes: the files of the way of serving, and each host's environment.

Roles only copy what is rendered here, so that the plan compares the true bytes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from r1deploy import content
from r1deploy.cluster.host import Host
from r1deploy.modes import mode_of
from r1deploy.planning.desired import File
from r1deploy.planning.interfaces import value_of
from r1deploy.planning.layout import Layout
from r1deploy.planning.recorded import Record
from r1deploy.planning.release import Inputs, Release
from r1deploy.settings.model import Settings

SECRET = "api_key.sh"
RECORD = "release.json"
ENV = "env.sh"
MODES = {ENV: "0600", SECRET: "0600"}


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

    def write(self, folder: Path) -> None:
        """Write each host's files below ``folder/<host>/``."""
        for host, files in self.files.items():
            for name, data in files.items():
                path = folder / host / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


def environment() -> Environment:
    """Jinja2 as strict as it gets; ``shell`` quotes a value for sh."""
    return _environment(content.TEMPLATES)


@functools.cache
def _environment(templates: Path) -> Environment:
    """The same one each time: it keeps what it compiled."""
    jinja = Environment(
        loader=FileSystemLoader(str(templates)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    jinja.filters["shell"] = lambda value: shlex.quote(str(value))
    return jinja


@dataclass(frozen=True)
class Material:
    """What a configuration is rendered from.

    ``hosts`` head first; ``inputs`` what the lock resolved to; ``nics``: host name → the interface that carries its
    address; the API key goes to the head alone.
    """

    settings: Settings
    hosts: tuple[Host, ...]
    release: Release
    inputs: Inputs
    nics: Mapping[str, str | None]
    api_key: str | None = None


def render(material: Material) -> Rendered:
    """Render the configuration of a release.

    The folder's name is a hash of what stands in it, so the files are rendered
    twice: once to name the folder, once with the name.
    """
    first = _files(material, "CONFIG")
    whole = hashlib.sha256()
    for host in sorted(first):
        for name, data in sorted(first[host].items()):
            whole.update(f"{host}\0{name}\0{len(data)}\0".encode() + data)
    identity = whole.hexdigest()[:12]
    return Rendered(identity, _files(material, identity))


def recognized(material: Material, records: Iterable[Record]) -> Rendered | None:
    """The configuration although the interface of some hosts is not known, where a record equals it in all else.

    In: as ``render``, with ``nics`` of the hosts that answered; the records that these hold. None: nobody knows it.
    """
    for record in records:
        files = _texts(material, record.config)
        digests, theirs = _digests(files), {host.name: host.files for host in record.hosts}
        for name in files.keys() - material.nics.keys():
            digests[name][ENV] = theirs.get(name, {}).get(ENV, "")
        data = record_of(material, record.config, digests)
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


def _files(material: Material, identity: str) -> dict[str, dict[str, bytes]]:
    """All files by host, the record among them."""
    texts = _texts(material, identity)
    record = record_of(material, identity, _digests(texts))
    return {name: {**files, RECORD: record} for name, files in texts.items()}


def _texts(material: Material, identity: str) -> dict[str, dict[str, bytes]]:
    """All files by host but the record."""
    templates, settings = environment(), material.settings
    at, release, service = Layout(settings.state_dir), material.release.id, settings.service
    common = {
        "service": service,
        "engine": settings.engine,
        "chip": settings.chip,
        "container": settings.container.name,
        "folder": at.config(release, identity),
        "outputs": at.outputs(release, service.name),
        "engine_log": at.engine_log(release, service.name),
        "engine_pid": at.engine_pid(release, service.name),
        "ssh_port": ssh_port_of(material.hosts),
        "hosts": material.hosts,
    }

    def text(template: str, **more: object) -> bytes:
        return templates.get_template(template).render(**common, **more).encode()

    mode = mode_of(service.mode)
    files: dict[str, dict[str, bytes]] = {}
    for host in material.hosts:
        rows = {row.file: text(row.template, **row.words) for row in mode.files(settings, host)}
        env = {key: value_of(key, value, material.nics.get(host.name)) for key, value in settings.env.items()}
        key = material.api_key if host.is_head else None
        rows[ENV] = text("env.sh.j2", host=host, env=env, secret=bool(key))
        if key:
            rows[SECRET] = f"export VLLM_API_KEY={shlex.quote(key)}\n".encode()
        files[host.name] = rows
    return files


def record_of(material: Material, identity: str, digests: Mapping[str, Mapping[str, str]]) -> bytes:
    """``release.json``, the same on all hosts: what has to be in place to serve this configuration again.

    In: host → file → sha256.
    """
    settings, release, inputs = material.settings, material.release, material.inputs
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
        "ssh_port": ssh_port_of(material.hosts),
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "slots": host.slots,
                "files": dict(digests[host.name]),
            }
            for host in material.hosts
        ],
    }
    return (json.dumps(record, indent=2) + "\n").encode()
