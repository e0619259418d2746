"""What crossed the controller's link and what was written to disks, by the kernel's own counters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MIB = 2**20


def bridge_of(gateway: str) -> str:
    """The device that has an address, the bridge of a lab. Ends the program where none has it."""
    argv = ["ip", "-o", "-4", "addr", "show", "to", gateway]
    words = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    return words[1] if words else sys.exit(f"no device here has the address {gateway}")


def sent_mib(bridge: str) -> float:
    """What this machine has sent over a bridge, in MiB; what the hosts there send each other is no part of it."""
    return int(Path(f"/sys/class/net/{bridge}/statistics/tx_bytes").read_text(encoding="utf-8")) / MIB


def written_mib() -> float:
    """Pages of files that were written on this machine, with all its lab hosts, since it started, in MiB.

    They count when they are written and not when they reach the disk: a file that is soon removed again counts too.
    """
    rows = dict(row.split() for row in Path("/proc/vmstat").read_text(encoding="utf-8").splitlines())
    return int(rows["nr_dirtied"]) * os.sysconf("SC_PAGE_SIZE") / MIB
