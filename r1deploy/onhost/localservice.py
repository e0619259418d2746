"""The service on this host for the probe: at which port it should answer, and what answers there."""

from __future__ import annotations

import http.client
import re
import socket
from typing import Any, Mapping

from . import asking
from .plainfiles import parse
from .trees import load

SECONDS = 3
ID = re.compile(r"[0-9a-f]{1,64}")


def service_port(request: Mapping[str, Any]) -> int:
    """The port of what is active on this host, as its own record says; the settings' where nothing is."""
    top = request["state_dir"]
    active = load(top + "/active.json")
    names = [active.get("release"), active.get("config")] if isinstance(active, dict) else []
    if names and all(isinstance(name, str) and ID.fullmatch(name) for name in names):
        record = load(f"{top}/releases/{names[0]}/config/{names[1]}/release.json")
        port = record.get("port") if isinstance(record, dict) else None
        if isinstance(port, int) and 0 < port < 65536:
            return port
    return int(request["ports"][0])


def look_service(port: int) -> dict[str, Any]:
    """What answers on the service's port: /health's status and model ids. Anybody on the host may answer there."""
    answer: dict[str, Any] = {"port": port, "health": None, "models": []}
    place = ("127.0.0.1", port)
    try:
        answer["health"], _ = asking.get(socket.AF_INET, place, "/health", SECONDS)
        status, body = asking.get(socket.AF_INET, place, "/v1/models", SECONDS)
        answer["models"] = models_in(body) if status == 200 else []
    except (OSError, ValueError, AttributeError, http.client.HTTPException, asking.Refused):
        pass  # nothing, or no engine
    return answer


def models_in(body: bytes) -> list[str]:
    """The ids in an answer of /v1/models. Raises ValueError, AttributeError where it is of another shape."""
    rows = parse(body.decode("utf-8", "replace")).get("data")
    names = [row.get("id") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [name[:200] for name in names if isinstance(name, str)][:20]
