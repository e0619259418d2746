"""A re-run with nothing to do, against plain parallel ssh that runs the same probe; cold to cold, in turn.

Run it with the lab up and bootstrapped, in the folder of its r1deploy.yaml: ``python benchmarks/rerun.py [RUNS]``.
It prints seconds of wall (median, min, max) and the ratio pair by pair; it judges nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from r1deploy import shipping
from r1deploy.observe.context import open_context
from r1deploy.observe.probing import probe, request_of


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    context = open_context(Path(), None, {})
    hosts = probe(context.target, context.settings).hosts
    scripts = {
        host.address: shipping.parcel(
            "probe", request_of(context.settings, ()) | {"address": host.address, "numbers": []}
        )
        for host in hosts
    }
    ssh = context.settings.ssh
    options = ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={ssh.known_hosts}", "-i", str(ssh.key_file)]
    ours, plain = [], []
    for _ in range(runs + 1):
        ours.append(
            timed(lambda: subprocess.run([sys.executable, "-m", "r1deploy", "bootstrap"], check=True, stdout=-3))
        )
        plain.append(timed(lambda: parallel(scripts, options, ssh.user or "root")))
    show("r1deploy bootstrap", ours[1:])
    show("parallel ssh, same probe", plain[1:])
    show("ratio", [a / b for a, b in zip(ours[1:], plain[1:], strict=True)])


def parallel(scripts: dict[str, bytes], options: list[str], user: str) -> None:
    """One ssh a host, all at once."""
    running = []
    for address, text in scripts.items():
        argv = ["ssh", *options, f"{user}@{address}", shipping.command("/usr/bin/python3", "probe")]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stdin
        process.stdin.write(text)
        process.stdin.close()
        running.append(process)
    for process in running:
        assert process.wait() == 0


def timed(act: object) -> float:
    """Seconds of wall."""
    start = time.monotonic()
    act()  # type: ignore[operator]
    return time.monotonic() - start


def show(name: str, values: list[float]) -> None:
    """One line."""
    print(f"{name:26} median {statistics.median(values):.2f}  min {min(values):.2f}  max {max(values):.2f}")


if __name__ == "__main__":
    main()
