"""What a re-run costs on 16 hosts: r1deploy, plain parallel ssh with the same probe, pyinfra with the same checks.

    python benchmarks/many_hosts.py [ROUNDS]        PYINFRA=/path/to/pyinfra to have it in the comparison

The hosts are one sshd of this run's own on 127.0.1.1 to 127.0.1.16, a high port, keys of its own; all of it goes at
the end. Nothing on this machine is changed: ``r1deploy plan`` looks and compares, as a bootstrap with nothing to do
does. Every way starts cold (no open connections), in turn, so that a busy machine is busy for all of them; one round
is thrown away. It prints seconds of wall, the controller's own seconds of CPU, and the ratios round by round; it judges
nothing. All targets share this machine's cores with the controller: on real hosts the part of the hosts is theirs.

Needs sshd (apt-get install openssh-server), and for the comparison with pyinfra, which is no part of r1deploy:

    python3 -m venv /tmp/pyinfra && /tmp/pyinfra/bin/pip install pyinfra && PYINFRA=/tmp/pyinfra/bin/pyinfra
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rerun import parallel, show

from r1deploy import shipping
from r1deploy.inputs.locking import patch_paths
from r1deploy.observe.probing import request_of
from r1deploy.settings import lockfile
from r1deploy.settings.load import load
from r1deploy.settings.lockfile import Lock, LockedImage, LockedPatch, LockedSource

HOSTS = 16  # as many addresses as one sshd listens on
ADDRESSES = [f"127.0.1.{number}" for number in range(1, HOSTS + 1)]
LONGEST_SECONDS = 600


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    pyinfra = os.environ.get("PYINFRA") or shutil.which("pyinfra")
    with tempfile.TemporaryDirectory(prefix="r1bench-") as name, server(Path(name)) as port:
        folder = Path(name)
        write_cluster(folder, port)
        ways = {"r1deploy plan": lambda: r1deploy(folder), "parallel ssh, same probe": ssh(folder, port)}
        if pyinfra:
            ways["pyinfra, same checks"] = lambda: run([pyinfra, "-y", "hosts.py", "checks.py"], folder)
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(rounds + 1):
            for way, act in ways.items():
                taken[way].append(measured(act))
    ours, plain, *other = (rows[1:] for rows in taken.values())
    for place, unit in enumerate(("wall", "CPU")):
        print(f"-- {unit}, {HOSTS} hosts, {rounds} rounds")
        for way, rows in taken.items():
            show(way, [row[place] for row in rows[1:]])
        show("r1deploy / ssh", [a[place] / b[place] for a, b in zip(ours, plain, strict=True)])
        if other:
            show("pyinfra / r1deploy", [a[place] / b[place] for a, b in zip(other[0], ours, strict=True)])
    if not other:
        print("pyinfra is not there: see the head of this file for how to install it")


def measured(act: Callable[[], None]) -> tuple[float, float]:
    """Seconds of wall, and of the CPU that our own processes took; those of the hosts are sshd's."""

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    wall, before = time.monotonic(), cpu()
    act()
    return time.monotonic() - wall, cpu() - before


def key(path: Path) -> str:
    """A new key pair; returns the public half."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "r1bench", "-f", str(path)], path.parent)
    return path.with_suffix(".pub").read_text(encoding="utf-8")


@contextlib.contextmanager
def server(folder: Path) -> Iterator[int]:
    """An sshd on all addresses; yields its port and ends it, with all it started."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if sshd is None:
        sys.exit("no sshd here: apt-get install openssh-server")
    with socket.socket() as probe:
        probe.bind((ADDRESSES[0], 0))
        port = int(probe.getsockname()[1])
    host_key = key(folder / "host_key")
    (folder / "authorized_keys").write_text(key(folder / "user_key"), encoding="utf-8")
    known = "".join(f"[{address}]:{port} {host_key}" for address in ADDRESSES)
    (folder / "known_hosts").write_text(known, encoding="utf-8")
    rows = [
        f"Port {port}",
        *(f"ListenAddress {address}" for address in ADDRESSES),
        f"HostKey {folder}/host_key",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "PidFile none",
        "StrictModes no",
        "PasswordAuthentication no",
        "MaxStartups 200",
        # The login's own shell files are no part of what is measured, and some of them take half a second.
        f"SetEnv HOME={folder}",
    ]
    (folder / "sshd_config").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own rule, where no init system made it
    process = subprocess.Popen(
        [sshd, "-D", "-E", str(folder / "sshd.log"), "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process, folder / "sshd.log")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until all addresses answer."""
    deadline = time.monotonic() + 20
    for address in ADDRESSES:
        while True:
            with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"sshd does not start:\n{log.read_text(encoding='utf-8') if log.exists() else ''}")
            time.sleep(0.1)


def write_cluster(folder: Path, port: int) -> None:
    """Settings, a whole lock file (no git is asked then), both inventories."""
    ssh = {"user": getpass.getuser(), "port": port, "key_file": "user_key", "known_hosts": "known_hosts"}
    (folder / "r1deploy.yaml").write_text(json.dumps({"ssh": ssh}), encoding="utf-8")
    rows = [f"node{number} ansible_host={address} slots=2" for number, address in enumerate(ADDRESSES, 1)]
    (folder / "inventory.ini").write_text("[cluster]\n" + "\n".join(rows) + "\n", encoding="utf-8")
    settings = load(folder, {}, {}).settings
    sources = {
        name: LockedSource(url=source.url, ref=source.ref, commit="a" * 40)
        for name, source in (("flaggems", settings.flaggems), ("flagscale", settings.flagscale))
    }
    patch = LockedPatch(commit=settings.patch.commit, ciphertexts=dict.fromkeys(patch_paths(settings), "b" * 64))
    image = LockedImage(name=settings.image.name, id="sha256:" + "c" * 64)
    lockfile.write(folder / lockfile.FILE_NAME, Lock(**sources, patch=patch, image=image))
    data = {
        "ssh_user": ssh["user"],
        "ssh_port": port,
        "ssh_key": str(folder / "user_key"),
        "ssh_known_hosts_file": str(folder / "known_hosts"),
        "ssh_strict_host_key_checking": "yes",
    }
    (folder / "hosts.py").write_text(f"hosts = ({ADDRESSES!r}, {data!r})\n", encoding="utf-8")
    shutil.copy(Path(__file__).with_name("pyinfra_checks.py"), folder / "checks.py")


def r1deploy(folder: Path) -> None:
    """Look at all hosts and say what would change."""
    run([sys.executable, "-m", "r1deploy", "plan"], folder)


def ssh(folder: Path, port: int) -> Callable[[], None]:
    """The same probe through one plain ssh a host, all at once."""
    request = request_of(load(folder, {}, {}).settings, ())
    scripts = {
        address: shipping.parcel("probe", request | {"address": address, "numbers": []}) for address in ADDRESSES
    }
    options = ["-p", str(port), "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={folder}/known_hosts"]
    options += ["-o", "ControlPath=none", "-o", "IdentitiesOnly=yes", "-i", str(folder / "user_key")]
    return lambda: parallel(scripts, options, getpass.getuser())


def run(argv: list[str], folder: Path) -> None:
    """A command that must succeed, within bounds; what it says is shown only when it does not."""
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)} fails:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    start = time.monotonic()
    main()
    print(f"took {time.monotonic() - start:.0f} s")
