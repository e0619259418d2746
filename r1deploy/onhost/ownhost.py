"""This host itself, for the probe: who and what it is, its network, memory and SSH keys."""

from __future__ import annotations

import glob
import importlib.util
import os
import platform
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import Any, Iterable, Mapping

from .addresses import addresses_of, own_addresses
from .plainfiles import read_text

# It becomes a part of a line of authorized_keys.
PROGRAM = re.compile(r"/[A-Za-z0-9._+/-]{1,254}")
PUBLIC_KEY = re.compile(r"[a-z][A-Za-z0-9@.-]* [A-Za-z0-9+/_-]+=*")
# The column of /proc/net/tcp that says: somebody listens.
LISTENING = "0A"


def look_host() -> dict[str, Any]:
    """Identity, Python, rights and clock."""
    user = pwd.getpwuid(os.getuid()).pw_name
    return {
        "hostname": socket.gethostname(),
        "machine_id": read_text("/etc/machine-id"),
        "boot_id": read_text("/proc/sys/kernel/random/boot_id"),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "interpreter": sys.executable if PROGRAM.fullmatch(sys.executable or "") else None,
        "time": time.time(),
        "user": user,
        "login": os.environ.get("SUDO_USER") or user,
        "sudo": has_sudo(),
        "tools": {
            "git": shutil.which("git") is not None,
            "rsync": shutil.which("rsync") is not None,
            "ssh_keygen": shutil.which("ssh-keygen") is not None,
            "requests": importlib.util.find_spec("requests") is not None,
        },
    }


def has_sudo() -> bool:
    """Whether we are root, or may become it without a password."""
    if os.getuid() == 0:
        return True
    try:
        return subprocess.run(["sudo", "-n", "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def look_net(request: Mapping[str, Any]) -> dict[str, Any]:
    """The interface of the host's address, its own name, and who listens on the ports asked about."""
    address = request["address"]
    # Of several addresses of a name the one that is ours counts; a name may be known to the controller only.
    own, resolved = own_addresses(), [*addresses_of(address), *request["numbers"]]
    ip = next((one for one in resolved if one in own), resolved[0] if resolved else None)
    return {
        "address": address,
        "ip": ip,
        "nic": own.get(ip) if ip else None,
        "nics": [name for _, name in socket.if_nameindex()],
        "hostname_ip": number_of_own_name(),
        "ports_taken": sorted(listening_ports() & set(request["ports"])),
    }


def number_of_own_name() -> str | None:
    """The address that this host's own name has here."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return None


def listening_ports(tables: Iterable[str] = ("/proc/net/tcp", "/proc/net/tcp6")) -> set[int]:
    """The TCP ports on which somebody listens."""
    ports = set()
    for table in tables:
        for row in (read_text(table, 64 << 20) or "").splitlines()[1:]:
            fields = row.split()
            if fields[3] == LISTENING:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return ports


def look_memory() -> dict[str, Any]:
    """MiB of memory in all and available."""
    rows = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read_text("/proc/meminfo") or "", re.MULTILINE))
    try:
        info = os.statvfs("/dev/shm")
        shm = info.f_blocks * info.f_frsize >> 20
    except OSError:
        shm = 0
    return {
        "total_mib": int(rows["MemTotal"]) // 1024,
        "available_mib": int(rows["MemAvailable"]) // 1024,
        "shm_mib": shm,
    }


def free_gib(path: str) -> float:
    """GiB free on the file system of a path, or of its nearest existing parent."""
    while True:
        try:
            info = os.statvfs(path or "/")
            break
        except FileNotFoundError:
            path = os.path.dirname(path)
    return round(info.f_bavail * info.f_frsize / 2**30, 2)


def look_ssh(request: Mapping[str, Any]) -> dict[str, Any]:
    """The host's own public keys, and the lines of ours in the trusted user's authorized_keys."""
    home = os.path.expanduser("~" + request["trust_user"])
    lines = (read_text(home + "/.ssh/authorized_keys") or "").splitlines()
    mark = "r1deploy:" + request["cluster"]
    return {"host_keys": host_keys(), "authorized": [line for line in lines if line.endswith(mark)]}


def host_keys(folder: str = "/etc/ssh") -> list[str]:
    """The public keys of sshd, without their comments."""
    keys = (" ".join((read_text(path) or "").split()[:2]) for path in sorted(glob.glob(folder + "/ssh_host_*_key.pub")))
    return [key for key in keys if PUBLIC_KEY.fullmatch(key)]


def public_key_of(path: str) -> str | None:
    """The public key of a file, with its comment; None where there is none."""
    text = read_text(path) or ""
    return text if PUBLIC_KEY.fullmatch(" ".join(text.split()[:2])) and text.isprintable() else None
