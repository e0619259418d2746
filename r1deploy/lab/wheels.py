"""Wheels from the package index, downloaded once on this machine for the image's Python.

Hosts and images of the lab have no way to the index (a proxy's certificate is one
reason): they install offline from the folder that is filled here.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from r1deploy.lab import places
from r1deploy.lab.laberrors import WheelsMissing

Say = Callable[[str], None]
PYTHON = "3.11"  # of Debian bookworm, the vendor image's base
GLIBC_MINOR = 36


def listing(name: str) -> Path:
    """The list of a set of wheels: one ``name==version`` a line."""
    return places.standins() / "wheels" / f"{name}.txt"


def wanted(name: str) -> list[str]:
    """The lines of a list that name a distribution."""
    lines = listing(name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def ensure(name: str, say: Say) -> Path:
    """The folder with all wheels of a list, filled if need be. Raises WheelsMissing."""
    text = "\n".join(wanted(name))
    folder = places.cache_folder() / f"wheels-{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Several labs share the cache; what one has begun the next one goes on with.
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            started = time.monotonic()
            say(f"downloading {len(wanted(name))} wheels ({name}, kept in {folder.parent})")
            download(name, folder.with_suffix(".partial"))
            folder.with_suffix(".partial").rename(folder)
            size = sum(path.stat().st_size for path in folder.iterdir()) // 2**20
            say(f"downloaded {size} MiB of wheels in {time.monotonic() - started:.0f} s")
    return folder


def download(name: str, folder: Path) -> None:
    """Run pip for the image's Python, not for ours. Raises WheelsMissing with pip's own words."""
    if platform.machine() != "x86_64":
        raise WheelsMissing(f"the wheels of {name} are for x86_64; this machine is {platform.machine()}")
    argv = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"]
    argv += ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    argv += [word for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    versions = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC_MINOR, 4, -1)]
    argv += [word for tag in (*versions, "manylinux2014_x86_64", "linux_x86_64") for word in ("--platform", tag)]
    done = subprocess.run(
        [*argv, "-d", str(folder), "-r", str(listing(name))], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "No module named" in line]
    text = "\n".join(said or done.stderr.splitlines()[-5:])
    if "torch==" in text:
        # PyTorch's CPU builds are on an index of their own; the plain one has CUDA builds only.
        fix = "let pip find PyTorch's CPU wheels (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL), then try again"
    else:
        fix = "check that pip reaches its index (proxy, CA bundle), then try again"
    free = shutil.disk_usage(folder.parent).free // 2**30
    raise WheelsMissing(f"pip cannot get the wheels of {name} ({free} GiB are free here)", fix, text)
