"""The Docker Engine, the image and our containers for the probe.

It starts no Docker client and no exec: it asks the engine through its socket and reads inside a container through the
root folder of the container's own process.
"""

from __future__ import annotations

import glob
import http.client
import json
import os
from typing import Any, Mapping

from . import enginesocket
from .asking import Refused
from .ownhost import free_gib
from .plainfiles import is_name, read_sha256
from .trees import load

LABEL_CLUSTER, LABEL_RELEASE = "r1deploy.cluster", "r1deploy.release"


def look_engine() -> dict[str, Any]:
    """The Docker Engine: version, store and folder, or why it does not answer."""
    if not os.path.exists(enginesocket.SOCKET):
        rootless = sorted(glob.glob("/run/user/*/docker.sock"))
        more = "; a rootless one listens at " + rootless[0] if rootless else ""
        return no_engine(f"no Docker Engine: {enginesocket.SOCKET} is not there{more}")
    try:
        status, version = enginesocket.get("/version")
        _, info = enginesocket.get("/info")
    except PermissionError:
        return no_engine("no right to use " + enginesocket.SOCKET)
    except (OSError, ValueError, http.client.HTTPException, Refused) as error:
        return no_engine(f"the Docker Engine does not answer: {error}")
    if status != 200:
        return no_engine(f"the Docker Engine answers {status}")
    if any("podman" in part.get("Name", "").lower() for part in version.get("Components") or []):
        return no_engine(f"Podman listens at {enginesocket.SOCKET}, not a Docker Engine")
    root = info.get("DockerRootDir", "/var/lib/docker")
    return {
        "ok": True,
        "version": version["Version"],
        "isolated": isolation_of(info),
        "root": root,
        "free_gib": free_gib(root),
        "error": None,
    }


def no_engine(why: str) -> dict[str, Any]:
    """The answer where there is no engine that can be used."""
    return {"ok": False, "error": why}


def isolation_of(info: Mapping[str, Any]) -> str | None:
    """How the engine keeps its containers from the host: ``userns``, ``rootless``, or None."""
    options = [option.split(",")[0] for option in info.get("SecurityOptions") or []]
    return next((name for name in ("rootless", "userns") if "name=" + name in options), None)


def look_image(name: str) -> dict[str, Any] | None:
    """Id of an image by name, and the digests of its manifest where the engine knows them, or None."""
    status, inspected = enginesocket.get("/images/" + name + "/json")
    if status != 200:
        return None
    names = [name for name in inspected.get("RepoDigests") or [] if "@sha256:" in name]
    digests = sorted({name.partition("@")[2] for name in names})[:50]
    return {"id": inspected["Id"], "arch": inspected.get("Architecture"), "digests": digests}


def look_containers(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Containers of this cluster, by label, and any other that holds our name."""
    rows = []
    for identity in ids_of(request["cluster"], request["container"]):
        status, inspected = enginesocket.get("/containers/" + identity + "/json")
        if status == 200:
            rows.append(container_of(identity, inspected))
    return sorted(rows, key=lambda row: str(row["name"]))


def ids_of(cluster: str, name: str) -> list[str]:
    """Ids of the cluster's containers and of the one of a name."""
    label = json.dumps({"label": [f"{LABEL_CLUSTER}={cluster}"]}).replace(" ", "").replace('"', "%22")
    _, ours = enginesocket.get("/containers/json?all=1&filters=" + label)
    ids = [row["Id"] for row in ours]
    status, named = enginesocket.get("/containers/" + name + "/json")
    if status == 200 and named["Id"] not in ids:
        ids.append(named["Id"])
    return ids


def container_of(identity: str, inspected: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan needs of a container. In: its id and the engine's answer."""
    labels = inspected["Config"].get("Labels") or {}
    root = container_root(inspected)
    return {
        "name": inspected["Name"].lstrip("/"),
        "id": identity,
        "image": inspected["Image"],
        "running": bool(inspected["State"].get("Running")),
        "paused": bool(inspected["State"].get("Paused")),
        "started_at": inspected["State"].get("StartedAt"),
        "cluster": labels.get(LABEL_CLUSTER),
        "release": labels.get(LABEL_RELEASE),
        "spec": container_spec(inspected),
        "installed": installed_in(root) if root and labels.get(LABEL_RELEASE) else None,
    }


def container_spec(inspected: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a container that a release fixes."""
    host, config = inspected["HostConfig"], inspected["Config"]
    return {
        "shm_size": host.get("ShmSize"),
        "interactive": config.get("OpenStdin"),
        "tty": config.get("Tty"),
        "volumes": sorted(host.get("Binds") or []),
        "privileged": host.get("Privileged"),
        "cap_add": sorted(host.get("CapAdd") or []),
        "pid": host.get("PidMode"),
        "network": host.get("NetworkMode"),
        "devices": sorted(
            "{PathOnHost}:{PathInContainer}:{CgroupPermissions}".format(**row) for row in host.get("Devices") or []
        ),
    }


def container_root(inspected: Mapping[str, Any]) -> str | None:
    """Folder through which a container's files can be read, or None."""
    pid = inspected["State"].get("Pid") or 0
    if pid:
        return f"/proc/{pid:d}/root"
    upper = (inspected.get("GraphDriver", {}).get("Data") or {}).get("UpperDir")
    return None if upper is None else str(upper)


def installed_in(root: str) -> dict[str, Any] | None:
    """The install record inside a container, and which parts of it still hold."""
    record = load(root + "/opt/r1deploy/installed.json")
    if not isinstance(record, dict) or not isinstance(record.get("parts"), dict):
        return None
    parts = {}
    for name, part in record["parts"].items():
        proof = part.get("proof") if isinstance(part, dict) else None
        if not is_name(name) or not isinstance(proof, dict):
            continue
        intact = all(read_sha256(root + path) == digest for path, digest in proof.items())
        tree, version = (value if isinstance(value, str) else None for value in map(part.get, ("tree", "version")))
        parts[name] = {"tree": tree, "version": version, "intact": intact}
    return {"parts": parts}
