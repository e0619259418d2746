"""A cluster's folder for the loopback hosts: settings, a whole lock file (no git is asked then), the inventory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.loopback import Farm
from r1deploy.inputs.locking import patch_paths
from r1deploy.settings import lockfile
from r1deploy.settings.load import load
from r1deploy.settings.lockfile import Lock, LockedImage, LockedPatch, LockedSource
from r1deploy.settings.model import Settings

R1DEPLOY = [sys.executable, "-m", "r1deploy"]
LONGEST_SECONDS = 1800


def write_site(farm: Farm, folder: Path) -> Settings:
    """Write the folder of a cluster on all hosts of the farm; returns its settings.

    The hosts are one machine, this one: the folder on the hosts is one too, below the benchmark's own.
    """
    folder.mkdir()
    ssh = {"user": "root", "port": farm.port, "key_file": str(farm.key), "known_hosts": str(farm.known_hosts)}
    document = {"cluster": "r1bench", "state_dir": str(farm.folder / "state"), "ssh": ssh}
    (folder / "r1deploy.yaml").write_text(json.dumps(document), encoding="utf-8")
    rows = [f"node{number} ansible_host={address} slots=2" for number, address in enumerate(farm.addresses, 1)]
    (folder / "inventory.ini").write_text("[cluster]\n" + "\n".join(rows) + "\n", encoding="utf-8")
    settings = load(folder, {}, {}).settings
    lockfile.write(folder / lockfile.FILE_NAME, whole_lock(settings))
    return settings


def whole_lock(settings: Settings) -> Lock:
    """A lock that names everything."""
    flaggems, flagscale = (
        LockedSource(url=source.url, ref=source.ref, commit="a" * 40)
        for source in (settings.flaggems, settings.flagscale)
    )
    patch = LockedPatch(commit=settings.patch.commit, ciphertexts=dict.fromkeys(patch_paths(settings), "b" * 64))
    image = LockedImage(name=settings.image.name, id="sha256:" + "c" * 64)
    return Lock(flaggems=flaggems, flagscale=flagscale, patch=patch, image=image)


def write_pyinfra(farm: Farm, folder: Path) -> None:
    """The same hosts for pyinfra, and its checks."""
    data = {
        "ssh_user": "root",
        "ssh_port": farm.port,
        "ssh_key": str(farm.key),
        "ssh_known_hosts_file": str(farm.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }
    (folder / "hosts.py").write_text(f"hosts = ({list(farm.addresses)!r}, {data!r})\n", encoding="utf-8")
    shutil.copy(Path(__file__).with_name("pyinfra_checks.py"), folder / "checks.py")


def must(argv: list[str], folder: Path, env: Mapping[str, str] | None = None) -> str:
    """What a command prints that must succeed; what it says is shown when it does not."""
    done = subprocess.run(
        argv,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(argv)} fails:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
