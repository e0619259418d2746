"""This machine's Docker Engine: find it, install it, start it, stop it again.

The lab asks the engine, never the client: a client without an engine is common.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r1deploy.lab import places
from r1deploy.lab.laberrors import LabError

Say = Callable[[str], None]
PACKAGES = {"dockerd": "docker.io", "mmdebstrap": "mmdebstrap", "iptables": "iptables", "git": "git"}
PID_FILE = Path("/var/run/docker.pid")
START_SECONDS = 60


def client() -> Any:
    """A connected Docker SDK client, or None where no engine answers."""
    import docker
    from docker.errors import DockerException

    try:
        engine = docker.from_env(timeout=600)
        engine.ping()
    except DockerException:
        return None
    return engine


def need_client() -> Any:
    """The client, or an error that says how to get an engine."""
    engine = client()
    if engine is None:
        raise LabError("no Docker Engine answers on this machine", "r1deploy lab up --install")
    return engine


def ensure_engine(install: bool, say: Say) -> Any:
    """An engine that answers; started and, with ``install``, installed where needed."""
    missing = missing_packages()
    if missing and install:
        apt_install(missing, say)
    engine = client()
    if engine is not None:
        require_tools(missing_packages())
        return engine
    require_tools(missing_packages())
    if not install and not places.engine_record().is_file():
        raise LabError("no Docker Engine answers on this machine", "r1deploy lab up --install")
    # Given the word once, the lab also starts its engine again after a crash or a reboot.
    start_engine(say)
    return need_client()


def require_tools(missing: list[str]) -> None:
    if missing:
        command = "apt-get install -y " + " ".join(missing)
        raise LabError(f"not installed: {', '.join(missing)}", f"r1deploy lab up --install (or: {command})")


def missing_packages() -> list[str]:
    """Packages whose program is not there; sbin is often not on a user's PATH."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [package for tool, package in PACKAGES.items() if shutil.which(tool, path=path) is None]


def as_root(*argv: str) -> list[str]:
    return list(argv) if os.geteuid() == 0 else ["sudo", "-n", *argv]


def apt_install(packages: list[str], say: Say) -> None:
    """Install Debian packages; docker-cli is a package of its own from Debian 13 on."""
    say(f"installing {', '.join(packages)}")
    env = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run(as_root(*env, "apt-get", "update", "-qq"))
    wanted = list(packages)
    known = subprocess.run(["apt-cache", "show", "docker-cli"], capture_output=True, check=False)
    if "docker.io" in wanted and known.returncode == 0:
        wanted.append("docker-cli")
    # A start by the package's own script fails where no init system runs; ours follows.
    run(as_root(*env, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted))


def run(argv: list[str]) -> str:
    """Run a command to its end; its last lines are the evidence when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed", "r1deploy lab up --install") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise LabError(f"failed with code {done.returncode}: {' '.join(argv[:6])}", evidence=tail)
    return done.stdout


def start_engine(say: Say) -> None:
    """Start the engine: by systemd where it runs, else detached by hand."""
    if Path("/run/systemd/system").is_dir():
        say("starting the Docker Engine with systemctl")
        run(as_root("systemctl", "start", "docker"))
        wait_for_engine(None, Path("/dev/null"))
        return
    clear_stale_pid(say)
    places.machine_folder().mkdir(parents=True, exist_ok=True)
    dockerd = shutil.which("dockerd", path="/usr/sbin:/usr/bin:/sbin:/usr/local/bin") or "dockerd"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    with places.engine_log().open("ab") as log:
        started = subprocess.Popen(
            as_root("env", f"PATH={path}", dockerd),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    say(f"starting the Docker Engine by hand (log: {places.engine_log()})")
    wait_for_engine(started, places.engine_log())
    record = {"pid": engine_pid(), "start": process_start(engine_pid())}
    places.engine_record().write_text(json.dumps(record))


def wait_for_engine(started: subprocess.Popen[bytes] | None, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while client() is None:
        if started is not None and started.poll() is not None:
            raise LabError("the Docker Engine ended at its start", f"read {log}", tail(log))
        if time.monotonic() > until:
            raise LabError(f"the Docker Engine did not answer within {START_SECONDS} s", f"read {log}", tail(log))
        time.sleep(0.3)


def tail(path: Path, lines: int = 12) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.is_file() else ""


def engine_pid() -> int | None:
    """The pid in the engine's own pid file, if that process really is an engine."""
    try:
        pid = int(PID_FILE.read_text().strip())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == "dockerd" and lives(pid) else None


def stat_fields(pid: int | None) -> list[str]:
    """/proc/PID/stat after the name: state first, start tick at 19."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def lives(pid: int) -> bool:
    """Whether a process runs: a killed one stays as a zombie where nothing reaps it."""
    fields = stat_fields(pid)
    return bool(fields) and fields[0] not in ("Z", "X")


def process_start(pid: int | None) -> str:
    """Start tick of a process: with the pid it names one process for ever."""
    fields = stat_fields(pid)
    return fields[19] if fields else ""


def clear_stale_pid(say: Say) -> None:
    """A killed engine leaves its pid file, and the next one would refuse to start."""
    if not PID_FILE.exists() or engine_pid() is not None:
        return
    say(f"removing {PID_FILE}, left by an engine that was killed")
    run(as_root("rm", "-f", str(PID_FILE)))


def stop_engine(say: Say) -> None:
    """End the engine that ``up`` started, and no other one."""
    try:
        record = json.loads(places.engine_record().read_text())
    except (OSError, ValueError):
        return
    pid = engine_pid()
    ours = pid is not None and pid == record.get("pid") and process_start(pid) == record.get("start")
    others = client()
    if ours and others is not None and others.containers.list():
        say("the Docker Engine goes on: other containers run on it")
        return
    if ours and pid is not None:
        say(f"stopping the Docker Engine that the lab started (pid {pid})")
        end_process(pid)
    places.engine_record().unlink(missing_ok=True)


def end_process(pid: int) -> None:
    if os.geteuid() == 0:
        os.kill(pid, signal.SIGTERM)
    else:
        run(as_root("kill", str(pid)))
    until = time.monotonic() + 30
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.2)
