"""The lab's two images: the host's (Debian 13) and the stand-in for the vendor's.

Each is a Debian base made by mmdebstrap (no registry is needed), kept as a tar
file in the cache under a hash of its recipe, plus one thin layer with the
stand-ins, so that a changed stand-in costs seconds.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1deploy.lab import layout as names
from r1deploy.lab.errors import LabError

Say = Callable[[str], None]
LEAVE_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
RAY = "/usr/local/lib/python3.11/dist-packages/ray/core/src/ray"
DROP_IN_VENDOR = (
    "/usr/lib/gcc/x86_64-linux-gnu/*/lto*",
    "/usr/bin/*lto-dump*",
    "/usr/lib/x86_64-linux-gnu/lib*san.so*",
    "/usr/lib/python3.11/config-3.11-*/*.a",
    "/usr/lib/python3.11/EXTERNALLY-MANAGED",
)


@dataclass(frozen=True)
class Recipe:
    """A Debian base and what is laid on it."""

    tag: str
    suite: str
    packages: tuple[str, ...]
    layer: str
    steps: tuple[str, ...] = ()
    command: str = "/bin/bash"
    drop: tuple[str, ...] = field(default=())

    def base_hash(self) -> str:
        text = json.dumps([self.suite, sorted(self.packages), LEAVE_OUT, self.drop])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def image_hash(self) -> str:
        digest = hashlib.sha256(json.dumps([self.base_hash(), self.steps, self.command]).encode())
        digest.update(folder_digest(names.standins() / self.layer))
        return digest.hexdigest()[:12]


HOST = Recipe(
    tag="r1lab-host",
    suite="trixie",
    packages=(
        "python3", "python3-requests", "openssh-server", "docker.io", "docker-cli", "iptables", "iproute2", "git",
        "rsync", "procps", "sudo", "ca-certificates", "iputils-ping", "kmod", "less",
    ),
    layer="host",
    steps=(
        "rm -f /etc/ssh/ssh_host_*",
        "useradd --create-home --shell /bin/bash ops",
        "install -d -m 0750 /etc/sudoers.d && echo 'ops ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ops",
        "mkdir -p /usr/src /lib/modules /mnt/share /run/sshd /srv/git",
        "git config --system safe.directory '*'",
        "ln -s corex-4.1.0 /usr/local/corex && chmod 0755 /usr/local/corex-4.1.0/bin/ixsmi /usr/local/sbin/r1lab-init",
        "chmod 0755 /opt/mxdriver/bin/mx-smi",
    ),
    command="/usr/local/sbin/r1lab-init",
)  # fmt: skip

VENDOR = Recipe(
    tag=names.VENDOR_IMAGE,
    suite="bookworm",
    packages=(
        "python3", "python3-pip", "python-is-python3", "git", "gcc", "libc6-dev", "python3-dev", "openssh-client",
        "procps", "ca-certificates", "rsync", "iproute2", "curl", "python3-git", "python3-yaml", "python3-cryptography",
        "python3-psutil", "python3-click", "python3-setuptools", "python3-wheel", "python3-omegaconf",
        "python3-aiohttp", "python3-tqdm", "python3-numpy",
    ),
    layer="image",
    steps=(
        "ln -s corex-4.1.0 /usr/local/corex",
        "chmod 0755 /usr/local/corex-4.1.0/bin/ixsmi /usr/local/bin/ray",
        f"chmod 0755 {RAY}/raylet/raylet {RAY}/gcs/gcs_server",
    ),
    drop=DROP_IN_VENDOR,
)  # fmt: skip


def source_files(folder: Path) -> list[Path]:
    """The files of a stand-in folder, without what Python leaves behind."""
    found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def folder_digest(folder: Path) -> bytes:
    """Hash of names and contents; times and modes do not count (a checkout sets them)."""
    digest = hashlib.sha256()
    shared = names.standins() / "shared" if folder.name in {"host", "image"} else None
    for root in (folder, *([shared] if shared else [])):
        for path in source_files(root):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return digest.digest()


def ensure(client: Any, recipe: Recipe, say: Say) -> str:
    """The image of a recipe, made if it is not there; returns its name."""
    name = recipe.tag if ":" in recipe.tag else f"{recipe.tag}:{recipe.image_hash()}"
    found = inspect(client, name)
    if found is not None and labels_of(found).get(names.RECIPE_LABEL) == recipe.image_hash():
        return name
    base = ensure_base(client, recipe, say)
    started = time.monotonic()
    build(client, recipe, base, name)
    say(f"built image {name} in {time.monotonic() - started:.0f} s")
    return name


def inspect(client: Any, name: str) -> dict[str, Any] | None:
    from docker.errors import ImageNotFound

    try:
        return dict(client.api.inspect_image(name))
    except ImageNotFound:
        return None


def labels_of(image: dict[str, Any]) -> dict[str, str]:
    return dict((image.get("Config") or {}).get("Labels") or {})


def ensure_base(client: Any, recipe: Recipe, say: Say) -> str:
    """The Debian base of a recipe as an image of this machine's engine."""
    name = f"r1lab-base:{recipe.layer}-{recipe.base_hash()}"
    if inspect(client, name) is not None:
        return name
    cache = names.cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    tarball = cache / f"{recipe.layer}-{recipe.base_hash()}.tar"
    if not tarball.is_file():
        say(f"making a Debian {recipe.suite} base for {recipe.tag} (half a minute, kept in {cache})")
        bootstrap(recipe, tarball)
    with tarball.open("rb") as stream:
        client.api.import_image_from_data(stream, repository="r1lab-base", tag=name.partition(":")[2])
    return name


def bootstrap(recipe: Recipe, tarball: Path) -> None:
    """Run mmdebstrap; the file appears under its name only when it is whole."""
    partial = tarball.with_suffix(f".{os.getpid()}.partial.tar")
    argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEAVE_OUT]
    if recipe.drop:
        argv.append('--customize-hook=chroot "$1" sh -c "rm -f ' + " ".join(recipe.drop) + '"')
    argv += [recipe.suite, str(partial)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        partial.unlink(missing_ok=True)
        tail = "\n".join(done.stderr.splitlines()[-15:])
        raise LabError(f"mmdebstrap could not make a Debian {recipe.suite} base", "check access to Debian", tail)
    partial.rename(tarball)


def build(client: Any, recipe: Recipe, base: str, name: str) -> None:
    """Lay the stand-ins over the base: one small layer."""
    lines = [f"FROM {base}", "COPY files/ /"]
    if recipe.steps:
        lines.append("RUN " + " && ".join(recipe.steps))
    lines += [
        f'LABEL {names.RECIPE_LABEL}="{recipe.image_hash()}"',
        'LABEL org.opencontainers.image.title="stand-in of the r1deploy lab, not the vendor\'s image"',
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8",
        f'CMD ["{recipe.command}"]',
    ]
    from docker.errors import APIError, BuildError

    context = build_context("\n".join(lines) + "\n", names.standins() / recipe.layer)
    try:
        client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True, network_mode="none")
    except (BuildError, APIError) as error:
        raise LabError(f"could not build {name}", evidence=str(error)) from error


def build_context(dockerfile: str, folder: Path) -> io.BytesIO:
    """A build context with fixed times and owners, so equal input gives equal layers."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        add_bytes(archive, "Dockerfile", dockerfile.encode(), 0o644)
        for root in (names.standins() / "shared", folder):
            for path in source_files(root):
                add_bytes(archive, f"files/{path.relative_to(root)}", path.read_bytes(), 0o644)
    stream.seek(0)
    return stream


def add_bytes(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, 1_718_150_400
    archive.addfile(entry, io.BytesIO(data))


def save(client: Any, name: str, target: Path, say: Say) -> None:
    """Write the image as the tarball that the vendor would mail; skipped when it is that already."""
    found = inspect(client, name)
    identity = str(found["Id"]) if found else ""
    mark = target.with_suffix(".id")
    if target.is_file() and mark.is_file() and mark.read_text() == identity:
        return
    mark.unlink(missing_ok=True)
    partial = target.with_suffix(".partial")
    with partial.open("wb") as stream:
        for chunk in client.images.get(name).save(named=name):
            stream.write(chunk)
    partial.rename(target)
    mark.write_text(identity)
    say(f"saved {name} as {target} ({target.stat().st_size // 2**20} MiB)")
