"""The process between r1deploy and Ansible: what a run has started ends with the run, however that ends.

Ansible's workers live in sessions of their own, rsync and ssh below them, and the connections that OpenSSH keeps open
leave their parent: no signal to a group reaches them all. This process is where the kernel puts every orphan of the
run (PR_SET_CHILD_SUBREAPER), so all of them stay its descendants. It ends them when Ansible has ended, when r1deploy
says so, and when r1deploy is gone: the pipe from it has no other end then. Only after that does it end itself.

Standard library only; run by its path: ``python -I -S supervisor.py FOLDER PROGRAM ARGUMENT...``.
Exit code: Ansible's; 128 + N where signal N ended it; 137 where we did.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import sys
import time

# In the run's folder: the pipe from r1deploy, and the file that is locked as long as this process lives. It removes
# that one last: where it is there and not locked, somebody has killed this process.
LIFE, ALIVE = "life", "alive"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# Processes that wait for a dead file server cannot be ended; nobody waits for those.
PATIENCE_SECONDS = 10.0
ENDED = 128 + signal.SIGKILL


def descendants() -> list[int]:
    """Living processes below this one. Where there is no /proc nobody knows."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(name)
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
                state, parent = stream.read().rsplit(")", 1)[1].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(pid)
    pids, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        pids += below
        waiting += below
    return pids


def reap(statuses: dict[int, int]) -> bool:
    """Take the children that ended. Returns whether others are left: an orphan of the run counts as a child."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            statuses[pid] = status
    except ChildProcessError:
        return False


def end_all() -> None:
    """End every descendant. Killed, not asked: what is asked may still do something first."""
    until = time.monotonic() + PATIENCE_SECONDS
    while reap({}) and time.monotonic() < until:
        for pid in descendants():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def start(argv: list[str]) -> int:
    """Start Ansible; its pid. It ends with this process, should somebody kill this one."""
    own = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == own:
            with contextlib.suppress(OSError):
                os.execv(argv[0], argv)
        os._exit(127)
    return pid


def prctl(option: int, value: int) -> None:
    """Linux only; elsewhere Ansible's workers end with their tasks."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def said(life: int) -> bytes | None:
    """What r1deploy says through the pipe: None nothing yet, empty that it is gone, else that the run has to end."""
    try:
        return os.read(life, 1)
    except BlockingIOError:
        return None


def watch(life: int, argv: list[str]) -> int:
    """Run Ansible until it ends or has to. Returns its exit code."""
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    ordered: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ordered.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    ansible = start(argv)
    poll = select.poll()
    poll.register(life, select.POLLIN)
    poll.register(wake, select.POLLIN)
    statuses: dict[int, int] = {}
    while not ordered and ansible not in statuses:
        if any(handle == life for handle, _ in poll.poll()):
            break
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        reap(statuses)
    if ansible not in statuses:
        os.kill(ansible, signal.SIGKILL)
        return ENDED
    code = os.waitstatus_to_exitcode(statuses[ansible])
    return code if code >= 0 else 128 - code


def main(argv: list[str]) -> int:
    """Entry point."""
    folder, program = argv[1], argv[2:]
    alive = os.open(os.path.join(folder, ALIVE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(alive, fcntl.LOCK_EX)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    life = os.open(os.path.join(folder, LIFE), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    # Read before anything starts: a pipe that never had another end does not wake poll().
    heard = said(life)
    if heard is not None:
        code = ENDED
    else:
        code = watch(life, program)
        end_all()
        heard = said(life)
    while heard:
        heard = said(life)
    if heard is not None:
        # r1deploy is gone: nobody else is left to remove what the run wrote down.
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, ALIVE))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
