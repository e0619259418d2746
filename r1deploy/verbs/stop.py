"""End the service: only the processes of our own container."""

from __future__ import annotations

from dataclasses import dataclass

from r1deploy.ansible.failures import Failure
from r1deploy.ansible.runner import Listener, Play
from r1deploy.errors import UnreachableError
from r1deploy.observe.view import View, lock_of_any, look
from r1deploy.planning.rolevars import fixed_groups
from r1deploy.planning.whatserves import pids_in
from r1deploy.run import Run, silent


@dataclass(frozen=True)
class Ended:
    """What a stop came to: hosts on which something ran and was ended, those of which nobody knows; who answered."""

    hosts: tuple[str, ...]
    unknown: tuple[Failure, ...]
    answered: bool = True

    def refuse_unknown(self) -> None:
        """Raise UnreachableError where a host did not answer: whether something runs there is not known."""
        if not self.unknown:
            return
        first = self.unknown[0]
        rows = "; ".join(f"{row.host}: {row.message} ({row.code})" for row in self.unknown)
        others = "nothing ran on the others" if self.answered else "no host answered"
        done = f"stopped on {', '.join(self.hosts)}" if self.hosts else others
        raise UnreachableError(
            first.code,
            f"whether the service still runs is not known of {rows}; {done}",
            host=first.host,
            evidence=[f"{row.host}: {line}" for row in self.unknown for line in row.evidence[-3:]],
            fix="bring what does not answer back, then r1deploy stop again",
        )


def stop(run: Run) -> Ended:
    """End the service on the hosts that answer."""
    view = look(run.context, lock_of_any(run.context, run.say))
    run.refuse_held(view)
    for name, failure in view.probed.failures.items():
        run.say(f"{name}: {failure.message}; not stopped there")
    unknown = tuple(view.probed.failures.values())
    running = running_on(run, view)
    if not running:
        return Ended((), unknown, answered=bool(view.probed.observed))
    with run.hold(view, "stop"):
        return Ended(end(run, view), unknown)


def end(run: Run, view: View, also: Listener = silent) -> tuple[str, ...]:
    """End the service where it runs, on a cluster that is held; the hosts of it. Raises ApplyError.

    In: who hears its events too.
    """
    running = running_on(run, view)
    if running:
        variables = {"service_name": container_of(run, view), "service_cluster": run.settings.cluster}
        groups = {**fixed_groups(view.desired), "r1_service": running}
        run.apply(view.desired, Play("stop.yml", groups, variables), also)
    return running


def running_on(run: Run, view: View) -> tuple[str, ...]:
    """Hosts on which something of the service runs."""
    container = container_of(run, view)
    return tuple(name for name, seen in view.probed.observed.items() if pids_in(seen, container))


def container_of(run: Run, view: View) -> str:
    """The container of the service: of what is active, else of the settings."""
    record = view.plan.serving.record
    return record.container if record else run.settings.container.name
