"""Keys, known_hosts, and the files a user of the lab works with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from r1deploy.lab import hosts, places
from r1deploy.lab.engines import Engine
from r1deploy.lab.laberrors import LabError
from r1deploy.lab.labsecrets import write_secret
from r1deploy.lab.places import Layout
from r1deploy.lab.upstreams import Made


def ensure_ssh_key(layout: Layout) -> str:
    """The lab user's login key; returns its public half."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    public = layout.ssh_key.with_suffix(".pub")
    if not (layout.ssh_key.is_file() and public.is_file()):
        key = ed25519.Ed25519PrivateKey.generate()
        encoding, none = serialization.Encoding, serialization.NoEncryption()
        write_secret(layout.ssh_key, key.private_bytes(encoding.PEM, serialization.PrivateFormat.OpenSSH, none))
        text = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        public.write_bytes(text + b" r1deploy-lab\n")
    return public.read_text()


def authorize(client: Any, container: str, public: str) -> None:
    """Let the key in, as root and as a user with sudo; keys that others laid there stay."""
    script = """for who in root ops; do
        home=$(getent passwd $who | cut -d: -f6)
        install -d -m 0700 -o $who -g $who $home/.ssh
        touch $home/.ssh/authorized_keys
        grep -qxF "$KEY" $home/.ssh/authorized_keys || echo "$KEY" >> $home/.ssh/authorized_keys
        chmod 0600 $home/.ssh/authorized_keys
        chown $who:$who $home/.ssh/authorized_keys
    done"""
    check_run(client, container, f"KEY={shlex.quote(public.strip())}\n{script}")


def check_run(client: Any, container: str, script: str) -> str:
    code, output = hosts.execute(client, container, ["sh", "-c", script])
    if code != 0:
        raise LabError(f"{container}: failed with code {code}: {script[:80]}", evidence=output)
    return output


def host_keys(client: Any, container: str) -> list[str]:
    """The host's public keys, read through the engine: nobody can stand between."""
    output = check_run(client, container, "cat /etc/ssh/ssh_host_*_key.pub")
    keys = [" ".join(line.split()[:2]) for line in output.splitlines() if line.strip()]
    if not keys:
        raise LabError(f"{container}: its host keys cannot be read", "run it again: r1deploy lab up")
    return keys


def write_known_hosts(client: Any, layout: Layout, count: int) -> None:
    lines = []
    for number in range(1, count + 1):
        host = places.node_name(number)
        for key in host_keys(client, places.container_name(host)):
            lines.append(f"{places.node_address(number)},{host} {key}")
    layout.known_hosts.write_text("\n".join(lines) + "\n")


def write_hostfile(layout: Layout, count: int) -> None:
    head = "# The hosts of the r1deploy lab, in FlagScale's form\n"
    rows = [f"{places.node_address(n)} slots={places.CHIPS} type=gpu\n" for n in range(1, count + 1)]
    layout.hostfile.write_text(head + "".join(rows))


def write_settings(layout: Layout, count: int, made: Made, engine: Engine) -> None:
    """Only what a user of the lab must set; the rest comes from the profile."""
    upstream = f"git://{places.upstream_address()}"
    sections: dict[str, list[str]] = {
        "ssh": ["user: root", f"key_file: {layout.ssh_key}", f"known_hosts: {layout.known_hosts}"],
        "image": [f"name: {engine.image.tag}", f"tarball: {layout.tarball_of(engine.image.tag)}"],
        "flaggems": [f"url: {upstream}/FlagGems.git"],
        "flagscale": [f"url: {upstream}/FlagScale.git", f"ref: {made.patch}"],
        "patch": [f"commit: {made.patch}", f"key_dir: {layout.vendor_key.parent}"],
        "git": [line for url, ours in made.instead_of.items() for line in ("instead_of:", f"  {url}: {ours}")],
        "engine": [
            f"model: {places.MODELS_IN_CONTAINER}/{engine.weights}",
            *([] if count == 2 else [f"pipeline_parallel_size: {2 * count}"]),
        ],
        "env": [],
        "disk": ["engine_gib: 2", "state_gib: 2"],
        "memory": ["available_gib: 1"],
        "service": [],
    }
    for section, more in engine.settings.items():
        sections[section] += more
    text = ["# Settings for the r1deploy lab on this machine, written by `r1deploy lab up`.", "cluster: lab"]
    for section, lines in sections.items():
        text += [f"{section}:", *(f"  {line}" for line in lines)] if lines else []
    layout.settings.write_text("\n".join(text) + "\n")


def ssh_argv(layout: Layout, address: str, argv: Sequence[str], user: str = "root") -> list[str]:
    """An ssh command line into a lab host, with the lab's key and known_hosts only."""
    options = ["-F", "/dev/null", "-i", str(layout.ssh_key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    options += ["-o", f"UserKnownHostsFile={layout.known_hosts}", "-o", "ConnectTimeout=5"]
    return ["ssh", *options, f"{user}@{address}", shlex.join(argv)]
