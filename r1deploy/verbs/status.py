"""Hosts by steps, release, chips, Ray, endpoint: one probe, and what it says; with one token where it is asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from r1deploy.observe.view import View, beside, lock_of_any, look, run_of
from r1deploy.planning.diagrecord import Standing, standings
from r1deploy.planning.recorded import Record
from r1deploy.planning.steps import STEPS
from r1deploy.planning.whatserves import Serving
from r1deploy.render import SECRET
from r1deploy.run import Run
from r1deploy.serving.answers import ask, endpoint_of, key_on_head, last_answer


def status(run: Run, *, token: bool = False) -> dict[str, Any]:
    """The state of the cluster as JSON types; works with the hosts that answer. In: whether a token is asked for.

    ``serving`` is None where a host that did not answer decides it.
    """
    view = beside(look(run.context, lock_of_any(run.context, run.say)))
    service, record = view.plan.serving, view.plan.serving.record
    serves = service.serves
    answer = probed_answer(run, view, record) if token and record and serves else None
    if token and serves:
        serves = answer is not None
    return {
        "cluster": run.settings.cluster,
        "release": view.desired.release.id,
        "config": view.desired.config_id,
        "active": service.active.model_dump(exclude={"settings"}) if service.active else None,
        "run": run_of(view),
        "serving": serves,
        "service": word(service, serves),
        "problems": problems(service),
        "unknown": list(service.unknown),
        "answer": answer,
        "last_answer": last_answer(run.settings.cluster, service),
        "diag": [dataclasses.asdict(row) for row in proven(view)],
        "endpoint": f"http://{record.hosts[0].address}:{record.port}/v1" if record and serves else None,
        "models": models(run, view, record) if record and serves else [],
        "ray_nodes": sum(bool(seen.processes.raylets) for seen in view.probed.observed.values()),
        "nodes": len(record.hosts) if record else len(view.desired.hosts),
        "hosts": [row(view, host.name) for host in view.desired.hosts],
    }


def proven(view: View) -> list[Standing]:
    """What the results of ``diag`` on the hosts are worth for the release of the settings."""
    kept = {name: seen.state.diag for name, seen in view.probed.observed.items()}
    return standings(view.desired.release.id, [host.name for host in view.desired.hosts], kept)


def problems(serving: Serving) -> list[str]:
    """What is wrong with the service, a line each; of one that was stopped nothing is missing."""
    rows = [] if serving.stopped else [f"{row.host}: {row.text}" for row in serving.problems]
    return rows + [f"{row.host}: active.json: {row.text}" for row in serving.unrecorded]


def word(serving: Serving, serves: bool | None) -> str:
    """The service in one word. In: whether it serves, where a token was asked for with that."""
    if serves is not False:
        return "serves" if serves else "unknown"
    if serving.active is None or serving.stopped:
        return "stopped"
    if serving.problems:
        return "incomplete"
    return "no token" if serving.serves else "no answer" if serving.active.proven else "starting"


def probed_answer(run: Run, view: View, record: Record) -> dict[str, Any] | None:
    """One answer of the service, now; None where it gives no token."""
    with run.head(view) as remote:
        passed = ask(run.settings, record, remote)
    return {"text": passed.answer.shown, "tokens": passed.answer.tokens} if passed else None


def models(run: Run, view: View, record: Record) -> list[str]:
    """Model ids of the service; where a key is needed the probe could not ask."""
    head = record.hosts[0]
    names = [name for name in view.probed.observed[head.name].service.models if name]
    if names or SECRET not in head.files:
        return names
    with run.head(view) as remote:
        key = key_on_head(run.layout, record, remote)
        return endpoint_of(run.settings.service, record, key, remote).models() or []


def row(view: View, name: str) -> dict[str, Any]:
    """One host. A step is True: nothing to do, False: something is due, None: a silent host decides it."""
    failure = view.probed.failures.get(name)
    if failure is not None:
        return {"name": name, "error": failure.code, "detail": failure.message, "steps": {}}
    seen = view.probed.observed[name]
    container = seen.container_of(view.desired.settings.cluster, view.desired.release.id)
    steps = {step: None if view.plan.unknown(step, name) else name not in view.plan.hosts_of(step) for step in STEPS}
    return {
        "name": name,
        "error": None,
        "steps": steps,
        "container": container.name if container else None,
        "running": container.running if container else False,
        "paused": container.paused if container else False,
        "started_at": container.started_at if container else None,
        "chips": len(seen.chips.chips),
        "driver": seen.chips.driver,
        "ray": bool(seen.processes.raylets),
        "engine": bool(seen.processes.engines),
        "foreign": len(seen.processes.foreign),
    }
