"""End the service and start it again; nobody else comes between the two."""

from __future__ import annotations

from r1deploy.run import Run
from r1deploy.serving.switching import Served
from r1deploy.verbs import serve, stop


def restart(run: Run) -> Served:
    """End the service and serve what bootstrap prepared. Raises as ``stop`` and ``serve`` do.

    What forbids to serve is refused before anything is stopped.
    """
    view = serve.survey(run)
    run.refuse_held(view)
    serve.refuse_unprepared(view)
    with run.hold(view, "restart"):
        view = serve.survey(run)
        serve.refuse_unprepared(view)
        run.say("Stopped." if stop.end(run, view) else "Nothing runs.")
        view = serve.survey(run)
        serve.refuse_unprepared(view)
        return serve.start(run, view)
