"""End the service: only the processes of our own container."""

from __future__ import annotations

from dataclasses import dataclass

from r1deploy.actions.bootstrap import refuse_failed
from r1deploy.actions.runs import changing, play, refuse_held
from r1deploy.ansible.failures import Failure
from r1deploy.errors import UnreachableError
from r1deploy.journal import Journal
from r1deploy.observe.context import Context
from r1deploy.observe.view import View, lock_of_any, look
from r1deploy.planning.rolevars import fixed_groups
from r1deploy.planning.serving import pids_in
from r1deploy.voice import Say


@dataclass(frozen=True)
class Stopped:
    """What a stop came to: hosts on which something ran and was ended, and those of which nobody knows."""

    hosts: tuple[str, ...]
    unknown: tuple[Failure, ...]

    def refuse_unknown(self) -> None:
        """Raise UnreachableError where a host did not answer: whether something runs there is not known."""
        if not self.unknown:
            return
        first = self.unknown[0]
        rows = "; ".join(f"{row.host}: {row.message} ({row.code})" for row in self.unknown)
        done = f"stopped on {', '.join(self.hosts)}" if self.hosts else "nothing ran on the others"
        raise UnreachableError(
            first.code,
            f"whether the service still runs is not known of {rows}; {done}",
            host=first.host,
            evidence=first.evidence[-3:],
            fix="bring it back, then r1deploy stop again",
        )


def stop(context: Context, journal: Journal, say: Say, *, wait: bool = False) -> Stopped:
    """End the service on the hosts that answer."""
    view = look(context, lock_of_any(context, say))
    refuse_held(view, wait=wait)
    for name, failure in view.probed.failures.items():
        say(f"{name}: {failure.message}; not stopped there")
    container = container_of(context, view)
    running = tuple(name for name, found in view.probed.observed.items() if pids_in(found, container))
    ended = Stopped(running, tuple(view.probed.failures.values()))
    if not running:
        return ended
    variables: dict[str, object] = {"service_name": container, "service_cluster": context.settings.cluster}
    groups = {**fixed_groups(view.desired), "r1_service": running}
    with changing(context, view, "stop", journal, say, wait=wait):
        refuse_failed(play(context, view.desired, journal, "stop.yml", variables=variables, groups=groups), journal)
    return ended


def container_of(context: Context, view: View) -> str:
    """The container of the service: of what is active, else of the settings."""
    record = view.plan.serving.record
    return record.container if record else context.settings.container.name
