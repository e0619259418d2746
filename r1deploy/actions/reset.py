"""Take away what is ours from every host: containers by their label, our folders, the trusted line."""

from __future__ import annotations

from r1deploy.actions.bootstrap import refuse_failed
from r1deploy.actions.runs import changing, play
from r1deploy.ansible.runner import REMOTE_TMP
from r1deploy.errors import UsageError
from r1deploy.journal import Journal
from r1deploy.observe.context import Context
from r1deploy.observe.view import View, lock_of_any, look, refuse_unreachable
from r1deploy.voice import Say


def reset(context: Context, name: str, journal: Journal, say: Say, *, images: bool, wait: bool) -> int:
    """Remove everything of the cluster from its hosts; images stay unless asked, weights always.

    In: the cluster's name as the user typed it. Returns the number of hosts.
    Raises UsageError where the name is another one, UnreachableError, ApplyError.
    """
    if name != context.settings.cluster:
        message = f"the cluster is called {context.settings.cluster}, not {name or 'nothing'}"
        raise UsageError("RESET_NAME", message, fix=f"r1deploy reset --yes {context.settings.cluster}")
    view = look(context, lock_of_any(context, say))
    refuse_unreachable(view.probed)
    with changing(context, view, "reset", journal, say, wait=wait):
        done = play(
            context,
            view.desired,
            journal,
            "reset.yml",
            variables=variables_of(context, view, images),
            groups={"r1_reset": tuple(view.probed.observed)},
            host_vars={
                host: {"reset_containers": [row.name for row in found.containers if row.cluster == name]}
                for host, found in view.probed.observed.items()
            },
        )
        refuse_failed(done, journal)
    return len(view.desired.hosts)


def variables_of(context: Context, view: View, images: bool) -> dict[str, object]:
    """Variables of the role."""
    return {
        "reset_state_dir": context.settings.state_dir,
        "reset_mark": view.desired.trust_mark,
        "reset_remote_tmp": REMOTE_TMP,
        "reset_image": context.settings.image.name if images else "",
    }
