"""End the service and start it again; nobody else comes between the two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from r1deploy.observe.blocking import refuse_blocked
from r1deploy.observe.view import View, record_of
from r1deploy.planning.changes import UNPAUSED
from r1deploy.planning.diagcheck import DIAG_MISSING
from r1deploy.run import Run
from r1deploy.serving.beforehand import prepare
from r1deploy.serving.stopwatch import CHECKS, Stopwatch
from r1deploy.serving.switching import Served
from r1deploy.signals import Stopped
from r1deploy.verbs import serve, stop

# What a service that hangs or died has of the host, and gives back when it is ended.
CURED = frozenset({"PORT_TAKEN", "CHIP_BUSY", "MEMORY_LOW"})

# What was asked for before the stop, where it counts: what serves now may be started again without it.
ASKED = frozenset({DIAG_MISSING})


def restart(run: Run) -> Served:
    """End the service and serve what bootstrap prepared. Raises as ``stop`` and ``serve`` do.

    What forbids to serve is refused before anything is stopped, but for what the stop itself mends.
    """
    view = serve.survey(run)
    run.refuse_held(view)
    refuse_incurable(run, view)
    with run.hold(view, "restart"), serve_mends():
        view = serve.survey(run)
        refuse_incurable(run, view)
        served = bool(view.plan.serving.serves)
        if served:
            prepare(run, view, record_of(view))
        watch = Stopwatch(served)
        run.say("Stopped." if stop.end(run, view, watch.heard) else "Nothing runs.")
        watch.begin(CHECKS)
        view = serve.survey(run)
        serve.refuse_unprepared(view, ASKED)
        return serve.start(run, view, watch)


def refuse_incurable(run: Run, view: View) -> None:
    """Raise PreflightError where the release is not whole, or something forbids to serve that no stop mends."""
    runs = bool(stop.running_on(run, view))
    if any(not (runs and row.reason == UNPAUSED) for row in view.plan.changes):
        raise serve.not_bootstrapped(view)
    refuse_blocked(tuple(row for row in view.plan.blockers("serve") if not (runs and row.code in CURED)))


@contextmanager
def serve_mends() -> Iterator[None]:
    """After a signal ``serve`` goes on; another ``restart`` would end what was started."""
    try:
        yield
    except Stopped as stopped:
        stopped.fix = stopped.fix or "r1deploy serve goes on from here"
        raise
