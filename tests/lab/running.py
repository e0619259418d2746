"""A run of the command line that a test watches, cuts and outlives; and the state that must come out."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from r1deploy.ansible import supervisor
from r1deploy.ansible.folder import PREFIX
from r1deploy.ansible.watchdog import marked
from r1deploy.journal import state_home
from r1deploy.observe.context import open_context
from r1deploy.observe.view import lock_of, look
from r1deploy.onhost.holder import GRACE_SECONDS
from r1deploy.render import SECRET
from tests.lab.conftest import HOSTS, Cluster, Ran


class Running:
    """``r1deploy ARGV`` in the background; what it says is kept line by line.

    It has a temporary folder of its own, by which all of its processes can be known. In: whether it runs on a
    terminal, the only thing of its session.
    """

    def __init__(self, cluster: Cluster, *argv: str, env: dict[str, str] | None = None, terminal: bool = False) -> None:
        self.lines: list[str] = []
        # Short: the path of a socket of OpenSSH's lies in it.
        self.temporary = Path(tempfile.mkdtemp(prefix="r1t-"))
        weakref.finalize(self, shutil.rmtree, self.temporary, True)
        ours, theirs = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "r1deploy", *argv],
            cwd=cluster.folder,
            env={**os.environ, "COLUMNS": "80", "TERM": "dumb", "TMPDIR": str(self.temporary), **(env or {})},
            stdin=theirs if terminal else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=terminal,
            preexec_fn=(lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)) if terminal else None,
        )
        os.close(theirs)
        self._output, self._closing = ours, threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        """What a failed test leaves at work would hold the cluster against the next one."""
        if self.process.poll() is None:
            self.kill()

    def _read(self) -> None:
        rest = b""
        while not self._closing.is_set():
            if not select.select([self._output], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._output, 65536)
            except OSError:  # a terminal's way to say that nobody has it any more
                data = b""
            if not data:
                break
            *whole, rest = (rest + data).split(b"\n")
            self.lines += [line.decode(errors="replace").rstrip("\r") for line in whole]
        self.lines += [rest.decode(errors="replace")] if rest else []
        os.close(self._output)

    @property
    def text(self) -> str:
        """All that was said so far, with the wrapping taken out."""
        return " ".join(" ".join(self.lines).split())

    def until(self, pattern: str, seconds: float = 180) -> None:
        """Wait for a line."""
        end = time.monotonic() + seconds
        while not any(re.search(pattern, line) for line in list(self.lines)):
            assert self.process.poll() is None, f"it ended before {pattern!r}: {self.text[-2000:]}"
            assert time.monotonic() < end, f"no {pattern!r} in {seconds} s: {self.text[-2000:]}"
            time.sleep(0.05)

    def end(self, seconds: float = 240) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def kill(self) -> None:
        """As kill -9 does: nothing of it can clean up."""
        self.process.kill()
        self.end(30)

    def close_terminal(self) -> None:
        """As a window that is closed, or a connection that is lost."""
        self._closing.set()
        self._reader.join()

    def ansible(self) -> int:
        """Ansible's own process, the one of the run that needs most memory; waits for one."""
        script, end = os.path.basename(supervisor.__file__).encode(), time.monotonic() + 60
        found: list[int] = []
        while not found and time.monotonic() < end:
            found = [pid for pid in marked(self.temporary) if script in Path(f"/proc/{pid}/cmdline").read_bytes()]
        (above,) = found
        return int(Path(f"/proc/{above}/task/{above}/children").read_text().split()[0])

    def left(self) -> list[str]:
        """Commands of the run that are still alive."""
        rows = []
        for pid in marked(self.temporary):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                rows += [command] if command else []  # a dead one has none
        return rows

    def assert_whole(self) -> None:
        """field.md 6.1: a second after its end no process and no file of it is left here, whatever ended it."""
        end = time.monotonic() + 1
        while (self.left() or list(self.temporary.iterdir())) and time.monotonic() < end:
            time.sleep(0.02)
        left = self.left(), list(self.temporary.iterdir())
        assert left == ([], []), left

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)


def state(cluster: Cluster) -> dict[str, Any]:
    """What the probe finds, without what differs between two undisturbed runs (times, ids, keys, builds)."""
    context = open_context(cluster.folder, None, {})
    view = look(context, lock_of(context, frozenset(), lambda _: None))
    assert not view.probed.failures
    found: dict[str, Any] = {"plan": [str(row) for row in view.plan.changes]}
    for name, host in view.probed.observed.items():
        found[name] = {
            "image": host.image,
            "containers": [
                (row.name, row.running, row.image, row.spec, sorted(row.installed.parts) if row.installed else None)
                for row in host.containers
            ],
            "trees": {tree: seen is not None and seen.bad_count for tree, seen in host.state.trees.items()},
            "sources": dict(host.state.sources),
            "configs": {key: row.configs for key, row in host.state.releases.items()},
            "folders": dict(host.state.folders),
            "bin": dict(host.state.bin),
            "trust": {file: mode for file, (_, mode) in host.state.trust.files.items()},
            "authorized": len(host.ssh.authorized),
            "leftovers": host.state.leftovers,
            "lock": host.lock,
            "processes": (len(host.processes.engines), len(host.processes.raylets), len(host.processes.foreign)),
        }
    return found


# What ends with the run on the hosts too, whatever ended it. Modules and jobs go on: the next run joins them.
ENDS_WITH_IT = """
ps -eo args | grep -E '[r]sync --server|[s]ftp-server|[ ](relay|filework)$' || true
ls -d /run/r1deploy/lab.lock 2>/dev/null || true
"""


def assert_hosts_let_go(cluster: Cluster) -> None:
    """Nothing on the hosts still serves a run that has ended, and the cluster is free: a few seconds after its end."""
    end = time.monotonic() + GRACE_SECONDS + 3
    while True:
        found = {host: cluster.sh(host, ENDS_WITH_IT).strip() for host in HOSTS}
        if not any(found.values()) or time.monotonic() > end:
            break
        time.sleep(0.2)
    assert not any(found.values()), found


# What must be nowhere once a run has ended: jobs in containers, the key's folder, copies of the patch.
# The lock of a checkpoint's folder stays as a file, which nobody holds: to remove it would let two in.
NOTHING_LEFT = """
ps -eo args | grep -E '[r]1guest|[u]npatch.py|[b]uild_vllm|[p]ip (wheel|install)|[A]nsiballZ|[r]sync --server' || true
for c in $(docker ps -q); do docker exec $c sh -c 'ls -d /dev/shm/r1deploy-* 2>/dev/null' || true; done
ls -d /var/lib/r1deploy/incoming* /var/lib/r1deploy/trees/*/tmp /var/lib/r1deploy/trees/*/incoming-* \
  /var/lib/r1deploy/*.new /run/r1deploy/lab.lock ~/.r1deploy-tmp/* 2>/dev/null || true
"""


# Where a secret could be: files, arguments and environments of processes, memory of containers. The pattern
# comes on standard input: in an argument the search would find itself.
KEY_SEARCHES = (
    "grep -rlsF -f - /var/lib/r1deploy /root /home /tmp /run /var/log /dev/shm",
    "grep -lsaF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline",
    "c=$(docker ps -q | head -n 1); [ -z $c ] || docker exec -i $c grep -rlsF -f - /dev/shm /tmp /root",
)


def assert_nothing_left(cluster: Cluster, *said: str, api_key: str | None = None) -> None:
    """No process, secret, folder or lock stayed behind, on the hosts or here; nor is a secret in what was said.

    In: the API key that the cluster is set up with. It lies in one 0600 file of the configuration, and nowhere else.
    """
    secrets = [cluster.lab.layout.vendor_key.read_text().splitlines()[3], *([api_key] if api_key else [])]
    for host in HOSTS:
        left = cluster.sh(host, NOTHING_LEFT).strip()
        assert left == "", (host, left)
        for secret, search in itertools.product(secrets, KEY_SEARCHES):
            code, found = searched(cluster, host, search, secret)
            places = [path for path in found.split() if secret != api_key or not path.endswith(f"/{SECRET}")]
            assert code in (0, 1, 2) and places == [], (host, search, code, found)
        modes = cluster.sh(host, f"find /var/lib/r1deploy -name {SECRET} ! -perm 600")
        assert modes.strip() == "", (host, modes)
    assert ansibles(cluster) == []
    assert abandoned() == []
    logs = []
    for path in (state_home() / "runs" / "lab").glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile, by a run on another lab
            logs.append(path.read_text(errors="replace"))
    assert not any(secret in text for text in (*said, *logs) for secret in secrets)


def searched(cluster: Cluster, host: str, search: str, secret: str) -> tuple[int, str]:
    """A search for a secret; one that the engine could not begin (its own exit code 126) is begun again, twice."""
    for _ in range(3):
        code, found = cluster.lab.exec(host, "sh", "-c", search, stdin=f"{secret}\n".encode())
        if code != 126:
            break
    return code, found


def plain_ansible(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """``ansible-playbook ARGV`` in an exported folder, as somebody runs it who only knows Ansible."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["ansible-playbook", *argv], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def abandoned() -> list[Path]:
    """Folders of runs that nobody holds any more; a run that is at work holds its own."""
    rows = []
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}{os.getuid()}-*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rows.append(path)
            finally:
                os.close(handle)
    return rows


def ansibles(cluster: Cluster) -> list[str]:
    """Commands of this machine that run our playbooks on the cluster: a killed run must not leave one at work."""
    rows = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "ansible-playbook" in command and f"{cluster.folder}/" in command:
                rows.append(command)
    return rows


def refused(done: Ran, exit_code: int, *words: str) -> None:
    """The run was refused with this exit code and these words, within 80 columns, without a traceback."""
    assert done.code == exit_code, done.text
    for word in words:
        assert word in done.text, (word, done.text)
    assert "Traceback" not in done.text
    prose = [line for line in done.err.splitlines() if "/" not in line]
    assert max(map(len, prose), default=0) <= 80, done.err


def apart(cluster: Cluster, tmp_path: Path) -> Cluster:
    """The same hosts with a folder of its own: no lock file yet."""
    for name in ("r1deploy.yaml", "inventory.ini"):
        shutil.copy(cluster.folder / name, tmp_path / name)
    return Cluster(cluster.lab, tmp_path)
