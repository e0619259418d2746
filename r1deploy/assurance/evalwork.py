"""Asks a plan's questions through evalscope until each has its answer, or it was asked often enough."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from r1deploy.assurance import evalinstall
from r1deploy.assurance.evalchild import last_lines, run
from r1deploy.assurance.evalendpoint import Asked
from r1deploy.assurance.evalfiles import Asked as Questions
from r1deploy.assurance.evalfiles import Counted, mend, scores
from r1deploy.assurance.evalkept import EvalPlan, RunFolder
from r1deploy.assurance.evalrows import SETS, Score, SetName
from r1deploy.errors import ApplyError, GateError
from r1deploy.planning.border import Count, Part
from r1deploy.signals import Stopped
from r1deploy.voice import Progress, Say

# A question that got an error is asked so often in one pass, and the whole of what is left in so many passes.
PASSES = 3
WAIT_SECONDS = 5
# The longest silence inside of an answer: a long queue, a prompt that is computed.
SILENCE_SECONDS = 1800
# evalscope waits for ever where it cannot write an answer down.
LEAST_FREE = 64 << 20
GOES_ON = "run the same command again: it goes on where it was interrupted, and asks no answered question twice"


class _Line(Part):
    """A line of the program in evalscope's environment."""

    asked: dict[SetName, dict[str, Count]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Means:
    """How a plan is asked. ``reach`` gives the endpoint, anew for each pass: a tunnel may break.

    ``batch``: questions at once; ``tries`` and ``pause`` (seconds) of one question
    that got an error; ``patience``: seconds that the endpoint may be away between two passes.
    """

    reach: Callable[[], Asked]
    batch: int
    patience: int
    max_tokens: int | None
    tries: int = 3
    pause: int = 10


@dataclass
class Work:
    """One run at work."""

    plan: EvalPlan
    folder: RunFolder
    means: Means
    say: Say
    bar: Progress
    asked: Questions = field(default_factory=dict)

    def all(self) -> list[Score]:
        """Every repeat, each with a seed of its own; the answers that came.

        Raises ApplyError EVAL_FAILED, DISK_FULL, GateError EVAL_SILENT, Stopped.
        """
        try:
            return [score for repeat in range(self.plan.settings.repeats) for score in self._repeat(repeat)]
        except Stopped as stop:
            stop.fix = stop.fix or GOES_ON
            raise

    def _repeat(self, repeat: int) -> list[Score]:
        found: list[Score] = []
        for attempt in range(1, PASSES + 1):
            endpoint = self._endpoint(first=attempt == 1)
            self._pass(endpoint, repeat)
            found = scores(self.folder.work(repeat), self.asked, repeat)
            left = self.questions() - len(found)
            if not left:
                break
            self.say(f"{left} of {self.questions()} questions got no answer (pass {attempt} of {PASSES})")
        return found

    def questions(self) -> int:
        """Questions of one repeat."""
        return sum(self.of_set(name) for name in self.asked)

    def of_set(self, name: SetName) -> int:
        """Questions of one set."""
        return sum(self.asked.get(name, {}).values())

    def _endpoint(self, first: bool) -> Asked:
        """The endpoint, once it answers. Raises GateError EVAL_SILENT."""
        until = time.monotonic() + (0 if first else self.means.patience)
        endpoint = self.means.reach()
        if not endpoint.answers and not first:
            self.say(f"{endpoint.url} does not answer: waiting up to {self.means.patience} s. Ctrl-C: {GOES_ON}")
        while not endpoint.answers:
            if time.monotonic() >= until:
                message = f"{endpoint.url} does not answer, or does not serve {endpoint.model}"
                raise GateError("EVAL_SILENT", message, fix=f"r1deploy status; then {GOES_ON}")
            time.sleep(WAIT_SECONDS)
            endpoint = self.means.reach()
        return endpoint

    def _pass(self, endpoint: Asked, repeat: int) -> None:
        """Ask what has no answer yet. Raises ApplyError EVAL_FAILED, DISK_FULL."""
        work = self.folder.work(repeat)
        mend(work)
        counted = Counted(work)
        there = " there" if self.plan.endpoint == "url" else ""

        def tick() -> None:
            self._has_room()
            for name, subsets in list(self.asked.items()):
                whose = f"{SETS[name].shown}{there}{f', repeat {repeat + 1}' if repeat else ''}"
                self.bar(whose, min(counted.done(name, subsets), self.of_set(name)), self.of_set(name))

        log = self.folder.path / "evalscope.log"
        code = run(
            evalinstall.program(evalinstall.OFFLINE, log),
            json.dumps(self._order(endpoint, repeat, work)),
            self._heard,
            tick,
        )
        if code != 0 or not self.asked:
            message = f"evalscope ended with code {code}"
            raise ApplyError("EVAL_FAILED", message, evidence=last_lines(log), fix=GOES_ON, log=log)

    def _has_room(self) -> None:
        """Raises ApplyError DISK_FULL where the next answers might not be written down."""
        free = shutil.disk_usage(self.folder.path).free
        if free < LEAST_FREE:
            message = f"{free >> 20} MiB are free here below {self.folder.path}, and {LEAST_FREE >> 20} are needed"
            raise ApplyError("DISK_FULL", message, fix=f"make room on this machine; then {GOES_ON}")

    def _heard(self, text: str) -> None:
        try:
            self.asked = _Line.model_validate_json(text).asked or self.asked
        except ValidationError:
            self.say(f"not understood: {text[:200]}")

    def _order(self, endpoint: Asked, repeat: int, work: Path) -> dict[str, Any]:
        settings, means = self.plan.settings, self.means
        sampling = {"temperature": settings.temperature, "top_p": settings.top_p, "seed": settings.seeds[repeat]}
        most = {"max_tokens": means.max_tokens} if means.max_tokens else {}
        return {
            "op": "ask",
            "url": endpoint.url,
            "key": endpoint.key,
            "direct": endpoint.inside,
            "model": endpoint.model,
            "sets": self.plan.places,
            "sampling": {**sampling, **most},
            "patience": {"retries": means.tries, "retry_interval": means.pause, "timeout": SILENCE_SECONDS},
            "batch": means.batch,
            "limit": settings.limit,
            "work": str(work),
        }
