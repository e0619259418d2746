"""The releases on the hosts, and the choice of one to go back to."""

from __future__ import annotations

from r1deploy.errors import PreflightError
from r1deploy.observe.blocking import refuse_unreachable
from r1deploy.observe.view import View, lock_of_any, look
from r1deploy.planning.records import Held, held
from r1deploy.run import Run


def releases(run: Run) -> list[Held]:
    """Every release that is on the hosts, and what is missing of it. Raises UnreachableError without the head."""
    return held_of(look(run.context, lock_of_any(run.context, run.say)))


def held_of(view: View) -> list[Held]:
    """The releases of a view; without an answer of the head nobody knows."""
    head = view.desired.head.name
    if head not in view.probed.observed:
        refuse_unreachable(view.probed)
    return held(view.desired.settings.cluster, head, view.probed.observed)


def choose(rows: list[Held], wanted: str | None) -> Held:
    """The release to go back to, whole on every host. Raises PreflightError."""
    fix = "r1deploy releases"
    if wanted is None:
        fits = [row for row in rows if row.state == "previous"]
        if not fits:
            raise PreflightError("ROLLBACK_NOTHING", "there is no previous release to go back to", fix=fix)
    else:
        fits = [row for row in rows if row.name.startswith(wanted) or row.record.config.startswith(wanted)]
        if not fits:
            known = ", ".join(row.name for row in rows) or "none"
            raise PreflightError("ROLLBACK_NOTHING", f"no release {wanted} on the head (there: {known})", fix=fix)
        if len(fits) > 1:
            known = ", ".join(row.name for row in fits)
            raise PreflightError("ROLLBACK_AMBIGUOUS", f"{wanted} may be {known}", fix="name it whole")
    chosen = fits[0]
    if chosen.state == "active":
        raise PreflightError("ROLLBACK_NOTHING", f"release {chosen.name} is the active one", fix=fix)
    if chosen.problems:
        raise PreflightError(
            "ROLLBACK_INCOMPLETE",
            f"release {chosen.name} is not whole: {chosen.problems[0]}; nothing was touched",
            host=chosen.problems[0].split(":")[0],
            evidence=chosen.problems if len(chosen.problems) > 1 else (),
            fix="set r1deploy.yaml back to what that release was made of, then bootstrap and serve",
        )
    return chosen
