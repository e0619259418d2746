"""Look at the cluster's lock, and end another run's hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from r1deploy import runlock
from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.view import View, lock_of_any, look, run_of
from r1deploy.run import Run


def status(run: Run) -> dict[str, Any] | None:
    """Who holds the cluster; None where nobody does. Raises UnreachableError without the head."""
    return run_of(with_head(run))


def release(run: Run, confirm: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    """End the hold of another run; returns what the lock said. In: ``confirm`` takes who holds it, and may refuse.

    Raises UnreachableError.
    """
    view = with_head(run)
    held = run_of(view)
    if held is None:
        return None
    confirm(held)
    with run.head(view) as remote:
        return runlock.release(remote, run.settings.cluster)


def with_head(run: Run) -> View:
    """A view whose head answered: nobody else knows the lock. Raises UnreachableError."""
    view = look(run.context, lock_of_any(run.context, run.say))
    if view.desired.head.name in view.probed.failures:
        refuse_unreachable(view.probed)
    return view
