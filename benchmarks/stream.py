"""A command's output through ``r1deploy exec``, against plain ssh with the same command, in turn.

Run it with the lab up, bootstrapped and serving, in the folder of its r1deploy.yaml:
``python benchmarks/stream.py [MIB ...]``.
It prints seconds of wall, their ratio and the most memory that r1deploy had, for each size; it judges nothing.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from r1deploy.dockercli import docker
from r1deploy.observe.context import open_context
from r1deploy.observe.probing import probe
from r1deploy.ssh import login_of

LINE = "a line of a log, as long as lines of logs are, more or less, up to this point"


def main() -> None:
    """Measure and print."""
    context = open_context(Path(), None, {})
    head = probe(context.target, context.settings).hosts[0]
    ssh = login_of(head, {}, context.settings.ssh).openssh()
    container = context.settings.container.name
    for mib in [int(word) for word in sys.argv[1:]] or [64, 256, 1024]:
        command = ["sh", "-c", f"yes '{LINE}' | head -c {mib}M"]
        plain, _ = measured([*ssh, shlex.join(docker("exec", container, *command))])
        ours, memory = measured([sys.executable, "-m", "r1deploy", "exec", "--host", head.name, "--", *command])
        print(f"{mib:5} MiB: ssh {plain:6.1f} s, exec {ours:6.1f} s, ratio {ours / plain:4.1f}; {memory:4.0f} MiB")


def measured(argv: list[str]) -> tuple[float, float]:
    """Seconds of wall, and the most memory of the process in MiB."""
    begun = time.monotonic()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, argv
    return time.monotonic() - begun, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
