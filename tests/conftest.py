"""What holds for all tests: hypothesis' settings, and a Ctrl-C that reaches what the tests start."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hypothesis import settings

# The same examples each time, and no deadline on a machine that is shared.
settings.register_profile("everyday", deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
settings.load_profile("everyday")

# Every worker of a parallel run has a lab of its own, and logs of its own: clusters of all labs are called "lab".
worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
if worker != "gw0":
    base = os.environ.get("R1DEPLOY_LAB_NAME", "r1lab")
    *net, last = os.environ.get("R1DEPLOY_LAB_NETWORK", "172.31.250").split(".")
    os.environ["R1DEPLOY_LAB_NAME"] = f"{base}-{worker}"
    os.environ["R1DEPLOY_LAB_NETWORK"] = ".".join([*net, str((int(last) + int(worker[2:])) % 256)])
    os.environ["XDG_STATE_HOME"] = str(Path.home() / ".local" / "state" / "r1deploy" / f"{base}-{worker}" / "state")

# A shell that starts us in the background has SIGINT ignored, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
