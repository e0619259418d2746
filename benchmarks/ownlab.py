"""A lab of the benchmark's own, beside a user's: hosts with links of their own, and the command line in a folder."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.site import R1DEPLOY, must

NAME, NETWORK = "r1bench", "172.31.252"
LONGEST_SECONDS = 1800
# A host as it was before any bootstrap; the image goes too.
WIPE = """
docker ps -aq | xargs -r docker rm -f > /dev/null
docker images -q | sort -u | xargs -r docker rmi -f > /dev/null 2>&1
rm -rf /var/lib/r1deploy
sed -i '/ r1deploy:/d' /root/.ssh/authorized_keys
"""


class OwnLab:
    """The lab, and a folder of a user's with its settings. Whatever fails ends the program with what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder / "lab", folder / "site"
        own = {"R1DEPLOY_LAB_NAME": NAME, "R1DEPLOY_LAB_NETWORK": NETWORK, "R1DEPLOY_LAB_DIR": str(self.folder)}
        self.env = {**os.environ, **own, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "80"}
        self.log_folder = folder / "state" / "r1deploy" / "runs" / "lab"
        self.site.mkdir()

    def up(self, count: int, *links: str) -> None:
        """Bring so many hosts up. In: limits of the links, as ``lab up --link`` takes them."""
        limits = [word for link in links for word in ("--link", link)]
        self.r1("lab", "up", "--install", "--hosts", str(count), *limits)

    def take_settings(self) -> None:
        """Begin as a user does: the lab's settings, and an inventory from its hostfile."""
        shutil.rmtree(self.site)
        self.site.mkdir()
        (self.site / "r1deploy.yaml").write_bytes((self.folder / "r1deploy.yaml").read_bytes())
        self.r1("init", str(self.folder / "hostfile.txt"))

    def down(self) -> None:
        """Remove the hosts."""
        self.r1("lab", "down")

    def r1(self, *argv: str) -> str:
        """Run r1deploy in the user's folder; returns what it prints."""
        return must([*R1DEPLOY, *argv], self.site, self.env)

    def hosts(self) -> dict[str, str]:
        """Name → address, in their order."""
        status = json.loads(self.r1("lab", "status"))
        return {row["name"]: row["address"] for row in status["hosts"]}

    def ssh(self, address: str) -> list[str]:
        """Plain ssh into a host; the command is to follow."""
        options = ["-F", "none", "-i", f"{self.folder}/ssh/id_ed25519", "-o", "IdentitiesOnly=yes"]
        options += ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.folder}/ssh/known_hosts"]
        return ["ssh", *options, f"root@{address}"]

    def everywhere(self, script: str) -> None:
        """Run a script on all hosts at once."""
        argvs = [[*self.ssh(address), f"sh -c {shlex.quote(script)}"] for address in self.hosts().values()]
        running = [subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for argv in argvs]
        codes = [process.wait(LONGEST_SECONDS) for process in running]
        if any(codes):
            sys.exit(f"codes {codes} on the hosts of the lab: {script.strip()}")

    def newest_log(self) -> list[Mapping[str, Any]]:
        """The rows of the newest event log."""
        newest = max(self.log_folder.glob("*.jsonl"))
        return [json.loads(line) for line in newest.read_text(encoding="utf-8").splitlines()]


@contextlib.contextmanager
def own_lab(folder: Path) -> Iterator[OwnLab]:
    """The benchmark's lab; its hosts are removed at the end."""
    lab = OwnLab(folder)
    try:
        yield lab
    finally:
        lab.down()
