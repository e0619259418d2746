"""The probe: one look at a host, read-only, as one small JSON document.

It starts no Docker client and no exec. The only
commands it runs are the vendor's smi tool and ``sudo -n true``.

Each part fails by itself: ``problems`` names it and says why, and the part is not there. Never "nothing there".
A part is a function ``look_…`` in a module of its kind; ``jobs_of`` lists them all.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Callable, Iterator, Mapping

from . import chips, containers, localservice, ownhost, processes, statefolder, weightsfolder
from .gather import Job, gather
from .holder import look_lock

SCHEMA = 1
MARK = "r1probe:"


def part(name: str, look: Callable[[], Any]) -> Job:
    """A job that finds one part."""
    return (name,), lambda: iter([(name, look())])


def docker_parts(request: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the Docker Engine knows, and the processes by its containers."""
    seen = containers.look_engine()
    yield "engine", seen
    yield "image", containers.look_image(request["image"]) if seen["ok"] else None
    rows = containers.look_containers(request) if seen["ok"] else []
    yield "containers", rows
    yield "processes", processes.look_processes(rows)


def jobs_of(request: Mapping[str, Any]) -> list[Job]:
    """The parts of the answer and what finds them; the jobs run side by side."""
    record = request["state_dir"] + "/weights.json"
    return [
        part("host", ownhost.look_host),
        part("net", lambda: ownhost.look_net(request)),
        part("memory", ownhost.look_memory),
        (("engine", "image", "containers", "processes"), lambda: docker_parts(request)),
        part("state", lambda: statefolder.look_state(request)),
        part("ssh", lambda: ownhost.look_ssh(request)),
        part("lock", lambda: look_lock(request["lock"])),
        part("chips", lambda: chips.look_chips(request)),
        part("service", lambda: localservice.look_service(localservice.service_port(request))),
        part("weights", lambda: weightsfolder.look_weights(request, record)),
    ]


def main(text: str) -> None:
    """Look at all and print one marked line. In: the order as JSON."""
    request = json.loads(text)
    parts, problems = gather(jobs_of(request), request["seconds"], request["limit"])
    answer = dict(parts, schema=SCHEMA, problems=problems)
    sys.stdout.write(MARK + json.dumps(answer, separators=(",", ":")) + "\n")
