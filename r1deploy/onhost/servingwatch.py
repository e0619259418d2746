"""What the gate asks inside a container: the service's process and log, Ray's nodes, the versions that have to agree.

The text of this file goes to ``python -c`` of the image (``Remote.python_in``): it imports nothing of the package.
Argument: the order as JSON. The answer is one marked line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from typing import Any, Callable, Mapping

MARK = "r1:"
LOG_BYTES = 20000
Order = Mapping[str, Any]


def watch(order: Order) -> dict[str, Any]:
    """The service: ``alive``, its ``log`` from an offset on, the log's ``size``; Ray's ``nodes`` if wanted."""
    text, size = end_of(order["log"], order["offset"])
    answer: dict[str, Any] = {"nodes": None, "alive": is_alive(order["pid_file"]), "log": text, "size": size}
    if order["nodes"]:
        try:
            answer["nodes"] = nodes()
        except Exception as error:  # any: Ray may be in whatever state
            answer["ray"] = str(error)[:200]
    return answer


def is_alive(pid_file: str) -> bool | None:
    """Whether the process lives that a file names; None where the file names none."""
    try:
        with open(pid_file, encoding="utf-8") as stream:
            return os.path.exists(f"/proc/{int(stream.read())}")
    except (OSError, ValueError):
        return None


def end_of(log: str, offset: int) -> tuple[str, int]:
    """(what a log holds from an offset on, the end of it; the log's size)."""
    try:
        with open(log, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(offset, size - LOG_BYTES))
            return stream.read().decode("utf-8", "replace"), size
    except OSError:
        return "", 0


def nodes() -> list[list[Any]]:
    """``[address, chips]`` of each node that Ray has."""
    ray = importlib.import_module("ray")
    ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [[node["NodeManagerAddress"], int(node["Resources"].get("GPU", 0))] for node in alive]


def versions(_: Order) -> str:
    """Ray's version and Python's. Ray refuses a node where one of them is another one."""
    ray = importlib.import_module("ray")
    return f"Ray {ray.__version__} (Python {platform.python_version()})"


def load(order: Order) -> dict[str, Any]:
    """Import ``modules``, so that the start finds them in memory: Ray's ``versions`` where it is one, or ``why`` not.

    Something may serve beside it: it takes the processor only where that is idle.
    """
    os.nice(19)
    for name in order["modules"]:
        try:
            importlib.import_module(name)
        except Exception as error:  # any: a module may raise what it likes
            return {"versions": None, "why": f"{name}: {type(error).__name__}: {error}"[:400]}
    return {"versions": versions(order) if "ray" in order["modules"] else None, "why": None}


ASKED: dict[str, Callable[[Order], Any]] = {"watch": watch, "versions": versions, "load": load}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(MARK + json.dumps(ASKED[asked["op"]](asked)))
