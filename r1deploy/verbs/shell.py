"""An interactive shell in our container."""

from __future__ import annotations

import shlex
import subprocess

from r1deploy.dockercli import docker
from r1deploy.errors import UsageError
from r1deploy.observe.blocking import container_of, hosts_of
from r1deploy.observe.view import lock_of_any, look
from r1deploy.run import Run, silent


def shell(run: Run, host: str | None) -> int:
    """A shell on a host (the head unless named), on the caller's terminal.

    Returns its exit code. Raises UsageError, UnreachableError, PreflightError.
    """
    view = look(run.context, lock_of_any(run.context, silent))
    wanted, *others = hosts_of(view, host or view.desired.head.name)
    if others:
        fix = f"r1deploy shell --host {wanted.name}"
        raise UsageError("LIMIT_EMPTY", f"--host {host}: a shell is on one host", fix=fix)
    login = run.context.login(view.probed, wanted.name)
    sudo = ["sudo"] if login.sudo("") else []
    inside = shlex.join([*sudo, *docker("exec", "-it", container_of(view, wanted), "/bin/bash")])
    # Before the options: the first one wins, and this is the one connection that needs a terminal.
    return subprocess.call(["ssh", "-tt", *login.openssh()[1:], inside])
