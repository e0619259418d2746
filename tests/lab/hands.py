"""The lab by hand, without r1deploy."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from r1deploy.lab import Lab

NAME = "r1lab_itself"


class Hands:
    """What a person does at the lab: ssh into a host, docker exec into the container."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.names = [host.name for host in lab.hosts()][:2]
        self.addresses = [host.address for host in lab.hosts()][:2]

    def ssh(self, host: str, script: str, code: int | None = 0, stdin: Path | None = None) -> str:
        source = stdin.open("rb") if stdin else subprocess.DEVNULL
        done = subprocess.run(
            self.lab.ssh(host, "bash", "-c", script),
            stdin=source,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        text = done.stdout + done.stderr
        assert code is None or done.returncode == code, f"{host}: {script}\ncode {done.returncode}\n{text[-3000:]}"
        return text

    def inside(self, host: str, script: str, code: int | None = 0) -> str:
        return self.ssh(host, f"docker exec {NAME} /bin/bash -c {shlex.quote(script)}", code)

    def head(self, script: str, code: int | None = 0) -> str:
        return self.inside(self.names[0], script, code)
