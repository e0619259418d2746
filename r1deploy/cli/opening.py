"""The run of a command: its cluster, and the terminal as its voice."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from r1deploy.ansible.events import Event
from r1deploy.cli.app import flags_of
from r1deploy.observe.context import open_context
from r1deploy.run import Run, Voice
from r1deploy.ui import lines


class Shown(Protocol):
    """What shows how a run goes on."""

    def event(self, event: Event) -> None:
        """Take one event of Ansible."""

    def bar(self, what: str, done: int, total: int) -> None:
        """Show how far something is."""


def open_run(
    folder: Path, inventory: Path | None, sets: list[str] | None, shown: Shown | None = None, *, wait: bool = False
) -> Run:
    """Read settings and inventory for a verb. Raises UsageError, ConfigError."""
    context = open_context(folder, inventory, flags_of(sets))
    voice = Voice(lines.say, shown.bar, shown.event) if shown else Voice(lines.say)
    return Run(context, voice, wait=wait)


def with_bundle(run: Run, bundle: Path | None) -> Run:
    """The same run with all that a bundle brings; without one as it is. Raises UsageError, PreflightError."""
    if bundle is not None:
        from r1deploy.verbs.bundle import use  # only here: every verb opens a run

        run.context = use(run.context, bundle, run.say)
    return run
