"""The runs of eval on this machine: what each asks is written down before, what it found at its end."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from r1deploy.assurance.evalhome import locked, runs_folder
from r1deploy.assurance.evalrows import EvalRun, EvalSettings, Kept, Points, Score, SetName, Sha256, Short, run_in
from r1deploy.errors import UsageError
from r1deploy.journal import private_folder
from r1deploy.planning.border import Text

PLAN, RUN, LOCK = "plan.json", "run.json", "lock"
# The plan of a run that another release answered in part.
GIVEN_UP = "plan.changed.json"


class EvalPlan(Kept):
    """What a run asks, and of whom: a run that was interrupted goes on where the same is asked again.

    ``against``: the other endpoint that is asked with this one, "" for none; ``places``: where the sets lie.
    """

    cluster: Short
    release: Short
    model: Text
    endpoint: Literal["cluster", "url"]
    against: Text
    places: dict[SetName, Text]
    versions: dict[Short, Short]
    settings: EvalSettings
    data: dict[SetName, Sha256]
    margin: Points


class RunFolder:
    """One run's folder. Its name is the run's id, which begins with the time of its start."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """The run's id."""
        return self.path.name

    def work(self, repeat: int) -> Path:
        """Where evalscope writes down one repeat."""
        return private_folder(self.path / "work" / str(repeat))

    def give_up(self) -> None:
        """Never go on with it: what it has is of two releases."""
        (self.path / PLAN).replace(self.path / GIVEN_UP)

    def keep(self, plan: EvalPlan, asked: dict[SetName, int], scores: list[Score]) -> EvalRun:
        """The run, whole, in its file. In: how many questions each set has."""
        stamp = time.strptime(self.id.split("-")[0], "%Y%m%dT%H%M%SZ")
        told = plan.model_dump(exclude={"against", "places"})
        kept = EvalRun(id=self.id, time=time.strftime("%Y-%m-%dT%H:%M:%SZ", stamp), asked=asked, scores=scores, **told)
        partial = self.path / f"{RUN}.new"
        partial.write_text(kept.model_dump_json(), encoding="utf-8")
        partial.replace(self.path / RUN)
        return kept


@contextlib.contextmanager
def opened(plan: EvalPlan) -> Iterator[tuple[RunFolder, bool]]:
    """The folder for a plan, held; and whether it goes on with an interrupted run of the same plan.

    Raises LockedError EVAL_BUSY where another r1deploy asks the same.
    """
    top = private_folder(runs_folder() / plan.cluster)
    found = next((path for path in sorted(top.iterdir(), reverse=True) if _unfinished(path, plan)), None)
    if found is None:
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}"
        folder = private_folder(top / name)
        (folder / PLAN).write_text(plan.model_dump_json(), encoding="utf-8")
    else:
        folder = found
    with locked(folder / LOCK, f"the run {folder.name} of eval"):
        yield RunFolder(folder), found is not None


def _unfinished(path: Path, plan: EvalPlan) -> bool:
    with contextlib.suppress(OSError, ValueError):
        known = EvalPlan.model_validate_json((path / PLAN).read_bytes())
        return known == plan and not (path / RUN).exists()
    return False


def found(word: str) -> tuple[EvalRun, Path]:
    """A kept run and its file. In: its id, a beginning of it, or the path of a file. Raises UsageError EVAL_UNKNOWN."""
    path = Path(word)
    if not path.is_file():
        there = sorted(runs_folder().glob(f"*/{word}*/{RUN}")) if "/" not in word and "*" not in word else []
        if len(there) != 1:
            known = ", ".join(path.parent.name for path in sorted(runs_folder().glob(f"*/*/{RUN}"))[-8:]) or "none"
            message = f"{word}: {'more than one kept run begins so' if there else 'no kept run, and no file'}"
            raise UsageError("EVAL_UNKNOWN", message, fix=f"the newest kept runs: {known}")
        path = there[0]
    try:
        return run_in(path.read_bytes()), path
    except (OSError, ValidationError) as error:
        message, said = f"{path} is no kept run of eval", str(error).splitlines()[:4]
        raise UsageError("EVAL_UNKNOWN", message, evidence=said, fix="name another one") from None


def every_kept() -> list[EvalRun]:
    """All kept runs, the newest first; a file that was changed by hand is none."""
    runs = []
    for path in sorted(runs_folder().glob(f"*/*/{RUN}"), key=lambda path: path.parent.name, reverse=True):
        with contextlib.suppress(OSError, ValidationError):
            runs.append(run_in(path.read_bytes()))
    return runs
