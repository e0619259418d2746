"""Bring the endpoint to a port of this machine."""

from __future__ import annotations

from r1deploy.observe.blocking import hosts_of
from r1deploy.observe.view import lock_of_any, look
from r1deploy.run import Run, silent
from r1deploy.voice import Say


def tunnel(run: Run, port: int, ready: Say) -> None:
    """Bring the endpoint here until it is interrupted; ``ready`` gets its URL.

    Raises UnreachableError TUNNEL_FAILED.
    """
    view = look(run.context, lock_of_any(run.context, silent))
    head = hosts_of(view, view.desired.head.name)[0]
    with run.remote(view, head.name) as remote:
        record = view.plan.serving.record
        ready(remote.forward(record.port if record else run.settings.engine.port, port))
        remote.wait()
