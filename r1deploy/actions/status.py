"""Hosts by steps, release, chips, Ray, endpoint: one probe, and what it says."""

from __future__ import annotations

from typing import Any

from r1deploy.actions.context import Context
from r1deploy.actions.look import View, lock_of_any, look, record_of
from r1deploy.actions.resolve import Say
from r1deploy.actions.runs import api_key_of
from r1deploy.actions.serve import endpoint_of
from r1deploy.planning.steps import STEP_NAMES


def status(context: Context, say: Say) -> dict[str, Any]:
    """The state of the cluster as JSON types; works with the hosts that answer. What nobody could say is None."""
    view = look(context, lock_of_any(context, say))
    head = view.probed.observed.get(view.desired.head.name)
    active = head.state.active if head else None
    healthy = bool(head and head.service.health == 200 and head.processes.engines)
    raylets = sum(bool(found.processes.raylets) for found in view.probed.observed.values())
    return {
        "cluster": context.settings.cluster,
        "release": view.desired.release.id,
        "config": view.desired.config_id,
        "active": active.model_dump() if active else None,
        "run": head.lock.model_dump(by_alias=True) if head and head.lock else None,
        "serving": healthy if head else None,
        "endpoint": f"http://{view.desired.head.address}:{context.settings.engine.port}/v1" if healthy else None,
        "models": models(context, view) if healthy else [],
        "ray_nodes": raylets,
        "hosts": [row(view, host.name) for host in view.desired.hosts],
    }


def models(context: Context, view: View) -> list[str]:
    """Model ids of the service; where a key is needed the probe could not ask."""
    found = [name for name in view.probed.observed[view.desired.head.name].service.models if name]
    if found or not context.settings.service.api_key_file:
        return found
    record = record_of(view)
    with context.head(view.probed) as remote:
        return endpoint_of(context, record, api_key_of(context), remote).models() or []


def row(view: View, name: str) -> dict[str, Any]:
    """One host."""
    failure = view.probed.failures.get(name)
    if failure is not None:
        return {"name": name, "error": failure.code, "detail": failure.message, "steps": {}}
    found = view.probed.observed[name]
    container = found.container_of(view.desired.settings.cluster, view.desired.release.id)
    return {
        "name": name,
        "error": None,
        "steps": {step: name not in view.plan.hosts_of(step) for step in STEP_NAMES},
        "container": container.name if container else None,
        "running": container.running if container else False,
        "started_at": container.started_at if container else None,
        "chips": len(found.chips.chips),
        "driver": found.chips.driver,
        "ray": bool(found.processes.raylets),
        "engine": bool(found.processes.engines),
        "foreign": len(found.processes.foreign),
    }
