"""What is done before the engine that serves is stopped, so that the gap is shorter; nothing of it is touched.

The new containers are asked to import Ray and the engine: that fills the page cache, and what cannot start is found
while the former release still serves. Then the checkpoint is read ahead on every host. No second Ray is started: it
would need the ports and the chips of the first one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from pydantic import ValidationError

from r1deploy.checkpoint.filling import fill
from r1deploy.connection import Remote, on_each
from r1deploy.errors import PreflightError, UnreachableError
from r1deploy.observe.view import View
from r1deploy.onhost import servingwatch
from r1deploy.planning.border import Part, Text
from r1deploy.planning.recorded import Record
from r1deploy.planning.whatserves import needs_ray
from r1deploy.run import Run

# The first import of an image that is on a slow disk.
LOAD_SECONDS = 300


class Loaded(Part):
    """What a new container answered: Ray's and Python's ``versions``, or ``why`` a module cannot be imported."""

    versions: Text | None
    why: Text | None


def prepare(run: Run, view: View, wanted: Record) -> None:
    """Do what can be done while something serves. Raises as ``load`` and ``fill``: then nothing was stopped."""
    run.at("beforehand")
    if view.plan.serving.active and view.plan.serving.active.release != wanted.release:
        load(run, view, wanted)
    if wanted.model == run.settings.engine.served_model_name:
        fill(run, view)


def containers(run: Run, view: View, wanted: Record) -> dict[str, str]:
    """The new containers that run, by host. That of a former release is stopped: it has served, and was verified."""
    found = {}
    for host in wanted.hosts:
        seen = view.probed.observed[host.name].container_of(run.settings.cluster, wanted.release)
        if seen and seen.running and not seen.paused:
            found[host.name] = seen.name
    return found


def load(run: Run, view: View, wanted: Record) -> None:
    """Import Ray and the engine in the new containers. Raises PreflightError RELEASE_UNREADY, UnreachableError."""
    found, python = containers(run, view, wanted), run.settings.python.executable
    if not found:
        return
    order = {"op": "load", "modules": [*(["ray"] if needs_ray(wanted) else []), "vllm"]}

    def one(remote: Remote) -> tuple[str, Loaded | None]:
        with contextlib.suppress(UnreachableError):  # what is really gone ends the switch before anything is stopped
            said = remote.python_in(found[remote.name], python, servingwatch, order, LOAD_SECONDS)
            return remote.name, loaded_of(said)
        return remote.name, None

    answers = dict(on_each([run.remote(view, name) for name in found], one))
    for name in [name for name, answer in answers.items() if answer is None]:
        run.say(f"{name}: {found[name]} did not say in {LOAD_SECONDS} s whether it can import the engine; going on")
    judge({name: answer for name, answer in answers.items() if answer}, found)
    if all(answers.values()):
        run.say(f"the new containers import {' and '.join(order['modules'])}")


def loaded_of(answer: object) -> Loaded | None:
    """A container's answer; None where it is none."""
    try:
        return Loaded.model_validate(answer)
    except ValidationError:
        return None


def judge(answers: Mapping[str, Loaded], found: Mapping[str, str]) -> None:
    """Raise PreflightError RELEASE_UNREADY. In: what the containers answered, head first; their names, by host."""
    for name, answer in answers.items():
        first, wanted = next((host, row.versions) for host, row in answers.items())
        why = answer.why
        if why is None and answer.versions != wanted:
            why = f"{answer.versions} there and {wanted} on {first}: they do not join"
        if why is not None:
            raise PreflightError(
                "RELEASE_UNREADY",
                f"{name}: {found[name]}: {why}; nothing was stopped",
                host=name,
                fix=f"docker rm -f {found[name]} there, then r1deploy bootstrap: it was changed by hand",
            )
