"""The steps, in the order in which they run: step = group = role = variable prefix = test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step: its name everywhere, and what it does in a few words."""

    name: str
    title: str


STEPS: tuple[Step, ...] = (
    Step("host", "folders and helpers on the host"),
    Step("image", "the vendor's image"),
    Step("container", "the container of the release"),
    Step("sources", "FlagGems and FlagScale"),
    Step("patch", "the vendor's patch"),
    Step("vllm", "vLLM, built once"),
    Step("install", "installed into the container"),
    Step("trust", "SSH from the head's container to the workers"),
    Step("config", "configuration files"),
)
SERVICE = Step("service", "the running service")
STEP_NAMES: tuple[str, ...] = tuple(step.name for step in STEPS)
