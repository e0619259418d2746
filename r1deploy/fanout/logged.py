"""The way of something from host to host, in the log and on the display as a step's task is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from r1deploy.ansible.events import Event, Kind
from r1deploy.errors import R1Error
from r1deploy.run import Run

SPREAD = "goes from host to host"


def logged(run: Run, step: str, hosts: Sequence[str], missed: Kind) -> Callable[[str, R1Error | None], None]:
    """Write down that it begins; returns who is to be told of each host's end.

    In: the step that it belongs to; the hosts that get it; what it is called where one does not get it.
    """

    def hear(kind: Kind, host: str | None, error: R1Error | None = None) -> None:
        run.heard(Event(kind, step, SPREAD, host, {"msg": error.message} if error else {}))

    hear("task", None)
    for host in hosts:
        hear("start", host)
    return lambda host, error: hear(missed if error else "changed", host, error)
