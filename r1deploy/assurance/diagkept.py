"""What a part of ``diag`` found, kept: all of it in a file on this machine, a summary on each host that took part."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1deploy.assurance.inside import Work, work_on_host
from r1deploy.connection import Remote, on_each
from r1deploy.errors import ApplyError, R1Error
from r1deploy.journal import private_file, private_folder, state_home
from r1deploy.observe.view import View
from r1deploy.planning.diagrecord import PARTS, STAMP, Kept, Part
from r1deploy.run import Run, silent
from r1deploy.session import ANSWER_SECONDS
from r1deploy.settings import redact

# Of a cluster: so many runs of all parts.
KEEP = 50 * len(PARTS)


@dataclass(frozen=True)
class PartResult:
    """One part at its end. ``chips`` by host, for each host that took part; ``document``: all of it, as JSON types."""

    part: Part
    ok: bool
    chips: Mapping[str, int]
    findings: Sequence[str]
    warnings: Sequence[str]
    document: Mapping[str, Any]


def keep(run: Run, view: View, result: PartResult) -> Path:
    """Keep a result, of a run that holds the cluster; the file with all of it. A host that cannot take it is said.

    Raises ApplyError DIAG_WRITE where this machine cannot take the file; the hosts have the summary then.
    """
    now = time.gmtime()
    _tell_hosts(run, view, result, time.strftime(STAMP, now))
    whole = {
        "cluster": run.settings.cluster,
        "part": result.part,
        "time": time.strftime(STAMP, now),
        "run": run.id,
        "release": view.desired.release.id,
        "config": view.desired.config_id,
        "ok": result.ok,
        "chips": result.chips,
        "findings": result.findings,
        "warnings": result.warnings,
        "result": result.document,
    }
    path = folder_of(run.settings.cluster) / f"{time.strftime('%Y%m%dT%H%M%S', now)}-{run.id}-{result.part}.json"
    try:
        _write(path, whole)
    except OSError as error:
        fix = f"make room in {path.parent}, or let this user write there"
        raise ApplyError("DIAG_WRITE", f"cannot write {path}: {error.strerror or error}", fix=fix) from error
    return path


def folder_of(cluster: str) -> Path:
    """Where this machine keeps the results of a cluster, the newest ``KEEP`` of them; names begin with the time."""
    return state_home() / "diag" / cluster


def _write(path: Path, whole: Mapping[str, Any]) -> None:
    private_folder(path.parent)
    with private_file(path) as stream:
        json.dump(redact.hide_in(whole), stream, indent=1, ensure_ascii=False)
        stream.write("\n")
    for old in sorted(path.parent.glob("*.json"))[:-KEEP]:
        old.unlink(missing_ok=True)


def _tell_hosts(run: Run, view: View, result: PartResult, now: str) -> None:
    """A summary into diag.json of each host that took part; which host has none is said."""
    summaries = {
        host: Kept(
            release=view.desired.release.id,
            time=now,
            ok=result.ok,
            chips=chips,
            findings=len(result.findings),
            run=run.id,
        )
        for host, chips in result.chips.items()
    }

    def tell(remote: Remote) -> str:
        order = {"path": run.layout.diag, "part": result.part, "summary": summaries[remote.name].model_dump()}
        try:
            return work_on_host(remote, Work("diagfile", order, ANSWER_SECONDS), silent).last
        except R1Error as error:
            return error.message

    for host, why in zip(summaries, on_each([run.remote(view, host) for host in summaries], tell), strict=True):
        if why:
            run.say(f"{host}: diag.json does not say what {result.part} found: {why}")
