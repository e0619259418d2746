"""pyinfra, which is no part of r1deploy: an environment of the benchmark's own, its version pinned."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "3.10.0"
LONGEST_SECONDS = 600


def ensure() -> Path | None:
    """The program ``pyinfra``, installed on first use; None where it cannot be had, which is said."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "r1deploy" / "bench" / f"pyinfra-{VERSION}"
    program = folder / "bin" / "pyinfra"
    if not program.exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", f"pyinfra=={VERSION}"]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
        if done.returncode:
            print(f"pyinfra {VERSION} cannot be installed: it is left out\n{done.stderr[-500:]}", file=sys.stderr)
            return None
    return program
