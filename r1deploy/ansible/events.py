"""ansible-runner's events as types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["play", "task", "start", "ok", "changed", "failed", "unreachable", "skipped"]
KINDS: dict[str, Kind] = {
    "playbook_on_play_start": "play",
    "playbook_on_task_start": "task",
    "runner_on_start": "start",
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}


@dataclass(frozen=True)
class Event:
    """One thing that happened: ``step`` is the play's, ``task`` the task's name, ``lane`` that of ``Play``."""

    kind: Kind
    step: str
    task: str
    host: str | None
    result: dict[str, Any] = field(default_factory=dict, repr=False)
    lane: str = ""


def event_of(raw: dict[str, Any]) -> Event | None:
    """An event of ansible-runner as ours; None for the kinds that do not matter here."""
    kind = KINDS.get(_word(raw.get("event")))
    if kind is None:
        return None
    data = mapping(raw.get("event_data"))
    result = mapping(data.get("res"))
    if kind == "ok" and result.get("changed"):
        kind = "changed"
    if kind == "failed" and data.get("ignore_errors"):
        kind = "ok"
    step = step_of(_word(data.get("play")) or _word(data.get("name")))
    return Event(kind, step, _word(data.get("task")), _word(data.get("host")) or None, result)


def _word(value: object) -> str:
    """A text as it is; what is none is empty."""
    return value if isinstance(value, str) else ""


def mapping(value: object) -> dict[str, Any]:
    """A mapping as it is; a module may answer with anything."""
    return value if isinstance(value, dict) else {}


def step_of(play: str) -> str:
    """Plays are called ``step: what it does``."""
    return play.split(":", 1)[0].strip().lower()
