"""A run ends whole (field.md 6.1, 6.2, 2.4): whatever ends it, no process of it lives and its folder is gone."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1deploy.ansible import folder, supervisor, watchdog

SCRIPT = """
import sys
from pathlib import Path
from r1deploy.cli import main as cli
from r1deploy.ansible.runner import Play, Target, Watch, run
from r1deploy.settings.model import Ssh
held = (lambda: not Path("released").exists()) if "held" in sys.argv else None
place = Path("inventory.ini").absolute()
cli.app = lambda argv, **_: print("outcome", run(Target(place, Ssh()), Play(sys.argv[1]), Watch(held=held)).ok)
cli.main()
"""
# A worker of Ansible in a session of its own, what it runs, and what has left its parent (like OpenSSH's connections).
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Begin
      ansible.builtin.command: >-
        sh -c 'setsid sleep 301 >/dev/null 2>&1 & touch {{{{ inventory_hostname }}}}; sleep 302; true'
      args:
        chdir: {place}
    - name: Go on
      ansible.builtin.file:
        path: {place}/went-on
        state: touch
        mode: "0600"
"""


class Run:
    """A playbook below r1deploy's own main, in a folder for temporary files of its own."""

    def __init__(self, place: Path, *argv: str, terminal: int | None = None, script: str = SCRIPT) -> None:
        self.place, self.temporary = place, place / "t m'p"
        self.temporary.mkdir()
        (place / "play.yml").write_text(PLAY.format(place=place))
        local = f"ansible_connection=local ansible_become=false ansible_python_interpreter={sys.executable}"
        (place / "inventory.ini").write_text(f"one {local}\ntwo {local}\n")
        stream = subprocess.PIPE if terminal is None else terminal
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(place / "play.yml"), *argv],
            cwd=place,
            env={**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "200"},
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=stream,
            stderr=subprocess.STDOUT if terminal is None else terminal,
            text=True,
            start_new_session=True,
            preexec_fn=None if terminal is None else lambda: own_terminal(terminal),
        )

    def begun(self) -> None:
        """Wait until both hosts are at work: what they wait for is there, not only the file before it."""
        end = time.monotonic() + 60
        while len(self.waiting()) < 2:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.02)

    def left(self) -> list[str]:
        """Processes that know the temporary folder or what the play runs; they may be dead in a moment."""
        pids = [pid for pid in watchdog.marked(self.temporary) if pid != self.process.pid]
        rows = []
        for pid in pids:
            with contextlib.suppress(OSError):
                rows.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        return [row for row in rows if row]

    def waiting(self) -> list[int]:
        """Processes for whose end the first task waits."""
        found = []
        for pid in watchdog.marked(self.temporary):
            with contextlib.suppress(OSError):
                if b"sleep\x00302" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def go_on(self) -> None:
        """Let the first task end."""
        for pid in self.waiting():
            os.kill(pid, signal.SIGTERM)

    def folders(self) -> list[Path]:
        return list(self.temporary.glob("*"))


def own_terminal(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    run.begun()
    assert any("sleep 301" in row for row in run.left()) and any("sleep 302" in row for row in run.left())
    yield run
    run.process.kill()
    run.process.wait()


def supervisor_of(run: Run) -> int:
    name = os.path.basename(supervisor.__file__)
    pids = [pid for pid in watchdog.marked(run.temporary) if name in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(pids) == 1
    return pids[0]


def ansible_of(run: Run) -> int:
    children = Path(f"/proc/{supervisor_of(run)}/task/{supervisor_of(run)}/children").read_text().split()
    return int(children[0])


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((signal.SIGINT,), "stopped by Ctrl-C"),
        ((signal.SIGINT, signal.SIGINT), "stopped by Ctrl-C"),
        ((signal.SIGTERM,), "stopped by SIGTERM"),
        ((signal.SIGHUP,), "stopped by SIGHUP"),
        ((signal.SIGHUP, signal.SIGHUP), "stopped by SIGHUP"),
    ],
    ids=["SIGINT", "SIGINT twice", "SIGTERM", "SIGHUP", "SIGHUP twice"],
)
def test_after_a_signal_nothing_is_left(started: Run, numbers: tuple[int, ...], said: str) -> None:
    """field.md 6.1, 6.2."""
    begun = time.monotonic()
    for number in numbers:
        started.process.send_signal(number)
        time.sleep(0.02)
    text = started.process.communicate(timeout=20)[0]
    assert started.process.returncode == 130, text
    assert f"INTERRUPTED: {said}; work may go on for a while on one, two" in text
    assert time.monotonic() - begun < 3
    assert started.left() == [] and started.folders() == []
    assert not (started.place / "went-on").exists()


def test_after_a_kill_nothing_is_left_within_a_second(started: Run) -> None:
    """field.md 6.1: nobody of r1deploy is there to clean up."""
    started.process.kill()
    started.process.wait()
    end = time.monotonic() + 1
    while (started.left() or started.folders()) and time.monotonic() < end:
        time.sleep(0.01)
    assert started.left() == [] and started.folders() == []
    assert not (started.place / "went-on").exists()


@pytest.mark.parametrize("who", [ansible_of, supervisor_of])
def test_out_of_memory(started: Run, who: object) -> None:
    """The kernel ends Ansible, or the supervisor: the run fails, and takes the rest with it."""
    assert callable(who)
    os.kill(who(started), signal.SIGKILL)
    text = started.process.communicate(timeout=20)[0]
    assert "outcome False" in text
    assert started.left() == [] and started.folders() == []
    assert not (started.place / "went-on").exists()


def test_the_terminal_is_closed(tmp_path: Path) -> None:
    """field.md 6.2, 2.4: what would be written to it then raises."""
    ours, theirs = pty.openpty()
    run = Run(tmp_path, terminal=theirs)
    os.close(theirs)
    run.begun()
    os.close(ours)
    assert run.process.wait(20) == 130
    assert run.left() == [] and run.folders() == []


def test_nohup_is_meant(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = Run(tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    run.begun()
    run.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert run.process.poll() is None
    run.process.terminate()
    assert "SIGTERM" in run.process.communicate(timeout=20)[0]


def test_a_lost_lock_ends_the_run_before_its_next_task(tmp_path: Path) -> None:
    """field.md 6.6: each task waits for the word that the cluster is still held."""
    run = Run(tmp_path, "held")
    run.begun()
    (tmp_path / "released").touch()
    run.go_on()
    text = run.process.communicate(timeout=20)[0]
    assert run.process.returncode == 0 and "outcome False" in text
    assert not (tmp_path / "went-on").exists()
    assert run.left() == [] and run.folders() == []


def test_a_run_that_ends_well_leaves_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, "held")
    run.begun()
    run.go_on()
    assert "outcome True" in run.process.communicate(timeout=60)[0]
    assert (tmp_path / "went-on").exists()
    assert run.left() == [] and run.folders() == []


def test_a_pipe_of_our_name_does_not_hang_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 2.3."""
    monkeypatch.setattr(folder.tempfile, "gettempdir", lambda: str(tmp_path))
    name = f"{folder.PREFIX}{os.getuid()}-"
    os.mkfifo(tmp_path / f"{name}pipe")
    (tmp_path / f"{name}file").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{name}link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{name}old").mkdir()
    folder.sweep()
    assert sorted(path.name.removeprefix(name) for path in tmp_path.iterdir()) == ["elsewhere", "file", "link", "pipe"]


@pytest.mark.skipif(os.getuid() != 0, reason="another user's folder needs root")
def test_a_folder_of_another_user_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 2.3: nobody on the controller plants folders, and holds one."""
    monkeypatch.setattr(folder.tempfile, "gettempdir", lambda: str(tmp_path))
    foreign = tmp_path / f"{folder.PREFIX}0-planted"
    foreign.mkdir()
    (foreign / "kept").touch()
    os.chown(foreign, 65534, 65534)
    folder.sweep()
    assert (foreign / "kept").exists()


def test_a_folder_that_another_run_sweeps_at_once_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock it looks like one that a killed run left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made, before = [], tempfile.mkdtemp

    def swept(prefix: str) -> str:
        path = before(prefix=prefix)
        made.append(path)
        if len(made) < 3:
            folder.sweep()
        return path

    monkeypatch.setattr(folder.tempfile, "mkdtemp", swept)
    path, handle = folder.make()
    assert [Path(row).exists() for row in made] == [False, False, True] and str(path) == made[-1]
    os.close(handle)


KEEPS_OPEN = """
import subprocess, sys, time
from r1deploy.ansible.sockets import kept_open
with kept_open() as sockets:
    subprocess.Popen(["sleep", "600"], env={"SOCKETS": sockets}, start_new_session=True)
    print(sockets, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "at its end"])
def test_connections_end_with_their_run(killed: bool) -> None:
    """What is nobody's child, as a connection that OpenSSH keeps open is; and the folder of its socket."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", KEEPS_OPEN], stdin=pipe, stdout=pipe, text=True) as run:
        assert run.stdout is not None
        place = Path(run.stdout.readline().strip())
        assert place.is_dir() and len(watchdog.marked(place)) == 2, "the sleep, and what ends it"
        if killed:
            run.kill()
    until = time.monotonic() + 10
    while (place.exists() or watchdog.marked(place)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not place.exists() and watchdog.marked(place) == []
