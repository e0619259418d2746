"""What the numbers are of: the machine, the versions, the commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent


def run_of(rounds: int) -> dict[str, Any]:
    """Now, here: {time, rounds, machine, versions}."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": rounds,
        "machine": machine(),
        "versions": versions(),
    }


def machine() -> dict[str, Any]:
    """Cores, memory, system, and what else kept it busy when the part began."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "cpu": cpu_name(),
        "memory_gib": round(memory / 2**30, 1),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
    }


def cpu_name() -> str:
    """The processor's own name; what kind it is, where it has none."""
    rows = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((row.partition(":")[2].strip() for row in rows if row.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    """r1deploy's commit, and the programs that are compared."""
    described = said(["git", "-C", str(TOP), "describe", "--always", "--dirty", "--exclude=*"])
    openssh = said(["ssh", "-V"]).partition(",")[0]
    return {
        "r1deploy": described,
        "Python": platform.python_version(),
        "ansible-core": importlib.metadata.version("ansible-core"),
        "OpenSSH": openssh.removeprefix("OpenSSH_"),
    }


def said(argv: list[str]) -> str:
    """What a program says, on whichever stream."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout + done.stderr).strip()
