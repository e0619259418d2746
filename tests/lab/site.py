"""A lab of its own beside the tests' lab, and a user's folder with the command line in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from r1deploy.lab import places


def own_network() -> str:
    """Three numbers of a network beside the tests' lab's."""
    first, second, third = places.network_prefix().split(".")
    return f"{first}.{second}.{(int(third) + 128) % 256}"


class Site:
    """A user's folder and environment, with the command line in them."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.lab = folder / "lab"
        self.env = {
            **os.environ,
            "COLUMNS": "80",
            "R1DEPLOY_LAB_NAME": f"{places.PREFIX}-{name}",
            "R1DEPLOY_LAB_NETWORK": own_network(),
            "R1DEPLOY_LAB_DIR": str(self.lab),
        }
        self.head = f"{own_network()}.11"

    def r1(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run r1deploy to its end, and print how long it took: the report of a CI run shows it."""
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "r1deploy", *argv],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        print(f"{' '.join(argv)}: exit code {done.returncode}, {time.monotonic() - started:.0f} s")
        return done

    def ok(self, *argv: str) -> str:
        done = self.r1(*argv)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout + done.stderr

    def take_settings(self) -> None:
        """Begin as a user does: the lab's settings, and an inventory from its hostfile."""
        shutil.copy(self.lab / "r1deploy.yaml", self.folder)
        self.ok("init", str(self.lab / "hostfile.txt"))

    def leave(self) -> None:
        """Take the lab away, with its folder: the image's tarball alone may be two gigabytes."""
        self.r1("lab", "down")
        shutil.rmtree(self.lab, ignore_errors=True)
