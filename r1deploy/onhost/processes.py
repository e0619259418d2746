"""Processes of Ray and the engine for the probe: ours by the container's cgroup, the others foreign."""

from __future__ import annotations

import glob
import os
import re
from typing import Any, Iterable, Iterator, Mapping

from .plainfiles import read_text

SOUGHT = re.compile(r"(^|/)(raylet|gcs_server)(\s|$)|\bvllm serve\b|run_inference_engine|run_fs_serve_vllm|ray::")
ENGINE = re.compile(r"\bvllm serve\b|run_inference_engine")
RAYLET = re.compile(r"(^|/)raylet(\s|$)")
GCS = re.compile(r"--gcs-address=(\S+)")
CONTAINER = re.compile(r"[0-9a-f]{64}")
PROC = "/proc"


def look_processes(containers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The processes by kind. In: the rows of ``look_containers``."""
    ours = {row["id"]: row["name"] for row in containers if row["release"]}
    foreign: list[dict[str, Any]] = []
    raylets: list[dict[str, Any]] = []
    engines: list[dict[str, Any]] = []
    for pid, command, groups in sought():
        name = next((ours[identity] for identity in ours if identity in groups), None)
        if name is None:
            inside = CONTAINER.search(groups)
            where = inside.group(0)[:12] if inside else None
            foreign.append({"pid": pid, "command": command[:120], "container": where})
        elif RAYLET.search(command):
            gcs = GCS.search(command)
            raylets.append({"pid": pid, "container": name, "gcs": gcs.group(1) if gcs else None})
        elif ENGINE.search(command):
            engines.append({"pid": pid, "container": name})
    return {"foreign": foreign[:20], "raylets": raylets, "engines": engines}


def sought() -> Iterator[tuple[int, str, str]]:
    """(pid, command line, cgroups) of the processes that are Ray's or an engine's."""
    for folder in glob.glob(PROC + "/[0-9]*"):
        command = (read_text(folder + "/cmdline") or "").replace("\0", " ").strip()
        if SOUGHT.search(command):
            yield int(os.path.basename(folder)), command, read_text(folder + "/cgroup") or ""
