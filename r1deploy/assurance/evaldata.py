"""The sets' folders on this machine: where they are, what they hash to, how they come from the hub."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from r1deploy.assurance import evalinstall
from r1deploy.assurance.evalchild import last_lines, run
from r1deploy.assurance.evalhome import home, locked, sets_folder
from r1deploy.assurance.evalrows import SETS, SetName
from r1deploy.errors import ConfigError, PreflightError, UsageError
from r1deploy.journal import private_folder
from r1deploy.run import silent
from r1deploy.settings.model import Settings
from r1deploy.settings.site import with_ca
from r1deploy.voice import Say

README = "README.md"
# evalscope removes it from a folder that it reads.
REMOVED = "dataset_infos.json"
CHUNK = 1 << 20


def names_of(text: str | None) -> list[SetName]:
    """The sets of ``--sets``, in the page's order; None: all. Raises UsageError EVAL_SET."""
    wanted = [word.strip() for word in text.split(",")] if text is not None else list(SETS)
    unknown = [word for word in wanted if word not in SETS]
    if unknown:
        message = f"--sets {text}: no set {', '.join(unknown)}"
        raise UsageError("EVAL_SET", message, fix=f"the sets are {', '.join(SETS)}")
    return [name for name in SETS if name in wanted]


def digest(folder: Path) -> str:
    """sha256 of a folder's files, by their names."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if not path.is_file() or inside == REMOVED or inside.startswith("."):
            continue
        one = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(CHUNK):
                one.update(block)
        whole.update(f"{one.hexdigest()}  {inside}\n".encode())
    return whole.hexdigest()


def folders(settings: Settings, names: Iterable[SetName], say: Say) -> dict[SetName, Path]:
    """Where the sets lie; what is missing in our own folder is fetched from the hub first.

    Raises ConfigError EVAL_DATA where ``eval.data`` lacks one, and what ``fetch`` raises.
    """
    given = settings.eval.data
    top = Path(given).expanduser() if given else sets_folder()
    found = {name: top / name for name in names}
    missing = [name for name, folder in found.items() if not (folder / README).is_file()]
    if missing and given:
        message = f"eval.data: {top} has no folder with a {README} for {', '.join(missing)}"
        raise ConfigError("EVAL_DATA", message, fix="r1deploy eval --fetch DIR where there is internet writes them")
    if missing:
        fetch(settings, missing, top, say)
    return found


def fetch(
    settings: Settings, names: Sequence[SetName], top: Path, say: Say, sources: Mapping[str, str] | None = None
) -> None:
    """Write sets as folders, from the hub of ``weights.hub``; those that are there stay.

    In: ``sources``, folders in place of the hub. Raises PreflightError EVAL_FETCH, EVAL_MISSING, LockedError EVAL_BUSY.
    """
    missing = [name for name in names if not (top / name / README).is_file()]
    private_folder(top)
    with evalinstall.in_use(), locked(top / ".lock", str(top)):
        for name in missing:
            say(f"fetching {SETS[name].shown} from {settings.weights.hub}")
            _fetched(settings, name, top / name, dict(sources or {}))


def _fetched(settings: Settings, name: SetName, folder: Path, sources: dict[str, str]) -> None:
    """One set. A folder without its README is what an interrupted run left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    log = private_folder(home()) / "fetch.log"
    log.write_bytes(b"")
    order = {"op": "fetch", "sets": {name: str(folder)}, "hub": settings.weights.hub, "sources": sources}
    environment = {**with_ca(settings.site), **settings.weights.env}
    code = run(evalinstall.program(environment, log), json.dumps(order), silent, silent)
    if code != 0:
        message = f"{SETS[name].shown} cannot be fetched from {settings.weights.hub}"
        fix = "give weights.env and site the way to the hub; or eval.data: DIR, with sets that `eval --fetch` wrote"
        raise PreflightError("EVAL_FETCH", message, evidence=last_lines(log), fix=fix, log=log)
