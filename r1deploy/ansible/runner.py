"""Run a playbook through ansible-runner: a fresh 0700 folder and an environment a run, typed events.

Facts on ansible-runner that shape this (measured at 2.4.3): it stores extra
variables and the whole environment under its data folder, reads ``ANSIBLE_*`` of
the caller, and finds ``ansible-playbook`` on PATH only.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from r1deploy import content
from r1deploy.ansible import overlay
from r1deploy.ansible.events import Event, event_of
from r1deploy.ansible.failures import Failure, failure_of
from r1deploy.ansible.folder import run_folder
from r1deploy.ansible.leash import CALLBACKS, FOLDER, Leash, launcher
from r1deploy.settings.model import Ssh
from r1deploy.signals import Interrupts, Stopped, goes_on
from r1deploy.ssh import LOGINS_THROUGH_A_JUMP_HOST, Login, control_path, login_of_all

Listener = Callable[[Event], None]
# Below the login's home. A name of our own: what lies there after an interrupted run is ours to remove.
REMOTE_TMP = ".r1deploy-tmp"
# 108 bytes less Ansible's name of a socket (10 digits), OpenSSH's end while it makes it (17), a slash and the zero.
LONGEST_CONTROL_FOLDER = 79


@dataclass(frozen=True)
class Target:
    """Which hosts and how to reach them: the user's inventory, and what the settings say of SSH.

    ``memory``: a folder here in which may be kept what Ansible read; None: nowhere. ``sockets``: the folder of the
    connections that are open for this run; None: each has its own.
    """

    inventory: Path
    ssh: Ssh
    memory: Path | None = None
    sockets: str | None = None


@dataclass(frozen=True)
class Play:
    """One of ``playbooks/``, and what it is given.

    ``variables`` are those of the roles, ``host_vars`` what differs by host, ``groups`` the hosts of its plays.
    ``folder`` None: one is made for it, and removed. ``lane``: its name where others are played beside it.
    """

    playbook: str
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    host_vars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path | None = None
    limit: str | None = None
    lane: str = ""


@dataclass(frozen=True)
class Watch:
    """Who looks on while a playbook runs.

    ``logins`` tells how to reach a host, for what a failure's fix advises. ``cancelled`` is asked again and again,
    ``held`` before each task, ``more`` before each play; both wait for the answer. Once one says that the run has to
    end, it does.
    """

    listen: Listener = lambda _: None
    logins: Callable[[str], Login | None] = lambda _: None
    cancelled: Callable[[], bool] = lambda: False
    held: Callable[[], bool] | None = None
    more: Callable[[], bool] = lambda: True


@dataclass
class Outcome:
    """What came of a run: results of the last task by host, failures, hosts on which it was ended at work."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    changed: int = 0
    tail: tuple[str, ...] = ()
    working: frozenset[str] = frozenset()
    ok: bool = False


def environment(folder: Path, asking: bool) -> dict[str, str]:
    """What a run's own environment has beside the caller's: our ansible.cfg, this Python's ``ansible-playbook`` first.

    In: the run's folder; whether Ansible asks before each task if it may go on.
    """
    own = Path(sys.executable).parent
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        "PATH": os.pathsep.join([str(launcher(folder, own)), str(own), os.environ.get("PATH", os.defpath)]),
        "ANSIBLE_CONFIG": str(content.PLAYBOOKS / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": content.collections_path(folder / "collections"),
        # What Ansible itself puts down here, and a module that it runs here and that is ended with it.
        **dict.fromkeys(("ANSIBLE_LOCAL_TEMP", "TMPDIR"), str(temporary)),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(control_folder(folder)),
        **dict.fromkeys(("LC_ALL", "LANG"), "C.UTF-8"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **({FOLDER: str(folder), "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS)} if asking else {}),
    }


def forget_callers() -> None:
    """Drop ``ANSIBLE_*`` of the caller, for good: ansible-runner can only add to what this process has.

    Not for the time of a run: others may be at work beside it.
    """
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        os.environ.pop(name, None)


def control_folder(folder: Path) -> Path:
    """Where OpenSSH's control sockets of a run lie, which may have 108 bytes of path; ours only, 0700.

    In: the run's folder, which is taken where its path is short enough.
    """
    own = folder / "cp"
    if len(str(own)) <= LONGEST_CONTROL_FOLDER:
        return own
    for base in (os.environ.get("XDG_RUNTIME_DIR") or "/tmp", "/tmp"):
        place = Path(base) / f"r1deploy-cp-{os.getuid()}"
        with contextlib.suppress(OSError):
            place.mkdir(mode=0o700, exist_ok=True)
            status = place.lstat()
            private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
            if private and len(str(place)) <= LONGEST_CONTROL_FOLDER:
                return place
    return own


def at_the_jump_host(ssh: Ssh, failures: list[Failure]) -> list[Failure]:
    """Failures with the jump host's own cause, where it is the one that cannot be reached.

    OpenSSH drops what the connection to a jump host says while it keeps connections
    open (ControlPersist), so that one is asked by itself.
    """
    unnamed = [row for row in failures if row.unreachable and row.code in ("SSH_FAILED", "SSH_DROPPED")]
    jump = login_of_all(ssh).jump
    if not jump or not unnamed:
        return failures
    done = subprocess.run([*jump.openssh("-n"), "true"], capture_output=True, text=True, check=False)
    if done.returncode != 255:  # OpenSSH's own failures
        return failures
    cause = failure_of(Event("unreachable", "", "", jump.host, {"msg": done.stderr}), jump)
    message = f"{jump.host}: {cause.message}"
    return [
        replace(row, code=cause.code, message=message, evidence=cause.evidence, fix=cause.fix)
        if row in unnamed
        else row
        for row in failures
    ]


def write_overlay(folder: Path, target: Target, play: Play) -> Path:
    """Our own inventory source beside the user's: groups by step, variables of the roles; no value is a template."""
    document = {
        "all": {
            # ansible-runner sets ANSIBLE_HOST_KEY_CHECKING=False; a variable goes above the environment.
            "vars": {
                "ansible_host_key_checking": True,
                "ansible_remote_tmp": f"~/{REMOTE_TMP}",
                **login_of_all(target.ssh).ansible(),
                **sockets_of(target),
                **play.variables,
            },
            "hosts": {name: dict(variables) for name, variables in play.host_vars.items()},
            "children": {name: {"hosts": {key: {} for key in hosts}} for name, hosts in play.groups.items()},
        }
    }
    path = folder / "overlay.yml"
    path.write_text(overlay.dump(document), encoding="utf-8")
    return path


def sockets_of(target: Target) -> dict[str, str]:
    """Ansible's variable for the connections that are open; it takes ``%`` for its own."""
    return {"ansible_control_path": control_path(target.sockets).replace("%", "%%")} if target.sockets else {}


def run(target: Target, play: Play, watch: Watch) -> Outcome:
    """Run a playbook and return what came of it; several may run at once, each in a thread of its own.

    Whatever ends it, none of its processes is left here. Raises Stopped after a signal,
    with the hosts on which work may go on for a while.
    """
    if play.folder is None:
        with run_folder() as fresh:
            return run(target, replace(play, folder=fresh), watch)
    import ansible_runner

    folder = play.folder
    ours = write_overlay(folder, target, play)
    outcome = Outcome()
    working: set[str] = set()

    def handle(raw: dict[str, Any]) -> bool:
        event = event_of(raw)
        working_on(raw, working)
        if event is not None:
            event = replace(event, lane=play.lane)
            note(outcome, event, watch.logins)
            watch.listen(event)
        return False  # nothing of the event is kept in files

    forget_callers()
    leash = Leash(folder, watch.cancelled, watch.held, watch.more)
    try:
        with leash, Interrupts(leash.end) as interrupts:
            done = ansible_runner.run(
                private_data_dir=str(folder),
                playbook=str(content.PLAYBOOKS / play.playbook),
                inventory=[str(target.inventory), str(ours)],
                limit=play.limit,
                envvars=environment(folder, watch.held is not None),
                forks=LOGINS_THROUGH_A_JUMP_HOST if target.ssh.jump else 64,
                timeout=None,
                quiet=True,
                cancel_callback=lambda: False,  # the leash ends it; ansible-runner would look every few seconds
                event_handler=handle,
                settings={"suppress_ansible_output": True, "idle_timeout": None},
            )
            interrupts.raise_stopped()
    except Stopped as stop:
        stop.goes_on = goes_on(working)
        raise
    outcome.ok, outcome.working = done.rc == 0, frozenset(working)
    outcome.failures = at_the_jump_host(target.ssh, outcome.failures)
    if not outcome.ok and not outcome.failures:
        outcome.tail = said(folder)
    return outcome


def working_on(raw: Mapping[str, Any], working: set[str]) -> None:
    """Keep the set of hosts on which a task is under way."""
    host = (raw.get("event_data") or {}).get("host")
    if raw.get("event") == "runner_on_start" and host:
        working.add(host)
    elif str(raw.get("event", "")).startswith("runner_on_") and host:
        working.discard(host)


def note(outcome: Outcome, event: Event, logins: Callable[[str], Login | None]) -> None:
    """Add one event to the outcome."""
    if event.kind in ("ok", "changed") and event.host:
        outcome.results[event.host] = event.result
        outcome.changed += event.kind == "changed"
    elif event.kind in ("failed", "unreachable") and event.host:
        outcome.failures.append(failure_of(event, logins(event.host)))


def said(folder: Path) -> tuple[str, ...]:
    """Last lines of Ansible's own output, for the runs that fail before the first event."""
    lines: list[str] = []
    for path in folder.glob("artifacts/*/std*"):
        lines += [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return tuple(line for line in lines if line)[-8:]


def read_inventory(path: Path) -> list[dict[str, Any]] | None:
    """What the probe's plugin wrote of the inventory; None where no play started."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return list(rows)
