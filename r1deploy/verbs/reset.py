"""Remove what is ours from every host: containers by their label, our folders, the trusted line."""

from __future__ import annotations

from r1deploy.ansible.runner import REMOTE_TMP, Play
from r1deploy.errors import UsageError
from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.view import lock_of_any, look
from r1deploy.run import Run


def reset(run: Run, name: str, *, images: bool) -> int:
    """Remove everything of the cluster from its hosts; images stay unless asked, weights always.

    In: the cluster's name as the user typed it. Returns the number of hosts.
    Raises UsageError where the name is another one, UnreachableError, ApplyError.
    """
    cluster = run.settings.cluster
    if name != cluster:
        message = f"the cluster is called {cluster}, not {name or 'nothing'}"
        raise UsageError("RESET_NAME", message, fix=f"r1deploy reset --yes {cluster}")
    view = look(run.context, lock_of_any(run.context, run.say))
    refuse_unreachable(view.probed)
    observed = view.probed.observed
    variables = {
        "reset_state_dir": run.layout.top,
        "reset_mark": view.desired.trust_mark,
        "reset_remote_tmp": REMOTE_TMP,
        "reset_image": run.settings.image.name if images else "",
    }
    ours = {
        host: {"reset_containers": [row.name for row in seen.containers if row.cluster == cluster]}
        for host, seen in observed.items()
    }
    with run.hold(view, "reset"):
        run.apply(view.desired, Play("reset.yml", {"r1_reset": tuple(observed)}, variables, ours))
    return len(view.desired.hosts)
