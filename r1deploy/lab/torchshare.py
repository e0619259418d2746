"""PyTorch's CPU build for a lab: it plays the chip for the tests of ``diag``, and only where they ask for it.

It is unpacked once onto the share, which every host has mounted and every container sees: no image and no host
becomes larger, and a lab without it is as quick as before. A container takes it by PYTHONPATH.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from r1deploy.lab import access, hosts, images, places, wheels

Say = Callable[[str], None]
NAME = "torch"
# Beside what images leave out of it: what only its own tests and its packing need.
LEFT_OUT = (*images.DROP_IN_WHEELS, "torch/bin/*Test", "torch/bin/protoc*", "torch/bin/*model*", "torch/share")


def folder() -> str:
    """The name of the folder on the share: of what lies in it."""
    digest = hashlib.sha256("\n".join([*wheels.wanted(NAME), *LEFT_OUT]).encode())
    digest.update(images.folder_digest(places.standins() / NAME))
    return f"r1lab-torch-{digest.hexdigest()[:12]}"


def ensure(client: Any, container: str, say: Say) -> None:
    """The folder is on the share, whole. In: a host that has the share. Raises LabError, WheelsMissing."""
    target = f"{places.MOUNT_POINT}/{folder()}"
    if hosts.execute(client, container, ["test", "-d", target])[0] == 0:
        return
    source = wheels.ensure(NAME, say)
    access.check_run(client, container, f"rm -rf {places.MOUNT_POINT}/r1lab-torch-* && mkdir {target}.partial")
    with tempfile.TemporaryFile(dir=places.cache_folder()) as packed:
        pack(sorted(source.glob("*.whl")), packed)
        packed.seek(0)
        client.api.put_archive(container, f"{target}.partial", packed)
    access.check_run(client, container, f"mv {target}.partial {target}")
    say(f"unpacked PyTorch's CPU build onto the share: {target}")


def pack(files: list[Path], target: IO[bytes]) -> None:
    """What the wheels install, and the stand-ins beside it, as a tar archive."""
    with tarfile.open(fileobj=target, mode="w") as archive:
        for wheel in files:
            with zipfile.ZipFile(wheel) as members:
                for member in members.infolist():
                    if not member.is_dir() and not left_out(member.filename):
                        with members.open(member) as stream:
                            add(archive, member.filename, stream, member.file_size)
        root = places.standins() / NAME
        for path in images.source_files(root):
            add(archive, str(path.relative_to(root)), io.BytesIO(path.read_bytes()), path.stat().st_size)


def left_out(name: str) -> bool:
    """Whether a file of a wheel lies in what is not used here."""
    parts = name.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(fnmatch.fnmatch(each, pattern) for pattern in LEFT_OUT for each in above)


def add(archive: tarfile.TarFile, name: str, stream: IO[bytes], size: int) -> None:
    """One file; PyTorch looks for a program of its own that it may run."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o755 if "/bin/" in name else 0o644
    archive.addfile(entry, stream)
