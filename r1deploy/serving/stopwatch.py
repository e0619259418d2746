"""How long a switch takes and what on: marks of the monotonic clock, made by Ansible's tasks and by the gate."""

from __future__ import annotations

import itertools
import time

from r1deploy.ansible.events import Event
from r1deploy.planning.recorded import Switched
from r1deploy.serving.answers import now

STOP, CHECKS, SWITCH, RAY, ENGINE, GATE = "stop", "checks", "switch", "ray", "engine", "gate"
# What came before the return to the former release.
FAILED = "failed"
# Parts by the task that begins them: of the role ``service``.
STOPS = {"Stop the former release", "End its processes by starting it afresh"}
# Of one container for both releases this one is the stop.
AFRESH = "Start it afresh"
TASKS = {
    AFRESH: SWITCH,
    "Give it its release's name": SWITCH,
    "Give it the name": SWITCH,
    "Write down what is active": SWITCH,
    "Start Ray": RAY,
    "Try the very line that FlagScale will use": RAY,
    "Run flagscale serve": RAY,
    "Run vllm serve": ENGINE,
}


class Stopwatch:
    """The marks of one switch. In: whether something served before it, so that somebody waits for an answer.

    ``ray``: whether what is started has nodes of Ray.
    """

    def __init__(self, served: bool) -> None:
        self._served, self.ray = served, True
        self._marks: list[tuple[str, float]] = []

    @property
    def began(self) -> bool:
        """Whether anything was stopped or put in place."""
        return bool(self._marks)

    @property
    def spared(self) -> bool:
        """Whether what served before was not touched."""
        return self._served and not self.began

    @property
    def _part(self) -> str:
        return self._marks[-1][0] if self._marks else ""

    def begin(self, part: str) -> None:
        """From now on it is this part; the one before has ended."""
        if part != self._part:
            self._marks.append((part, time.monotonic()))

    def heard(self, event: Event) -> None:
        """Take one event of Ansible."""
        if event.kind != "task":
            return
        waits = self.spared or self._part == FAILED
        if event.task in STOPS or (event.task == AFRESH and waits):
            self.begin(STOP)
        elif event.task in TASKS and not waits:
            part = TASKS[event.task]
            self.begin(ENGINE if part == RAY and not self.ray else part)

    def failed(self) -> None:
        """The release failed: all until now was for nothing, and the former one comes back."""
        if self.began:
            self._marks = [(FAILED, self._marks[0][1])]

    def end(self) -> Switched:
        """An answer came."""
        end = time.monotonic()
        parts: dict[str, float] = {}
        for (part, begin), (_, after) in itertools.pairwise([*self._marks, ("", end)]):
            parts[part] = parts.get(part, 0) + after - begin
        whole = end - self._marks[0][1] if self._marks else 0
        rounded = {part: round(seconds, 1) for part, seconds in parts.items()}
        return Switched(at=now(), gap=self._served, seconds=round(whole, 1), parts=rounded)
