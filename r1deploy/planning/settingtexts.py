"""The settings that a release is made of, as texts: kept on the hosts, so that a plan names the one that changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from r1deploy.planning.recorded import Active, Record
from r1deploy.planning.records import differences
from r1deploy.planning.release import digest
from r1deploy.settings import redact
from r1deploy.settings.model import Settings

Texts = Mapping[str, str]

# What a release and its configuration are made of, beside hosts and the lock file's inputs: sections, and what of them.
SECTIONS: dict[str, set[str] | None] = {
    "state_dir": None,
    "slots": None,
    "container": None,
    "patch": {"commit", "device_type", "backends", "task"},
    "vllm": {"build", "install"},
    "python": {"executable"},
    "engine": None,
    "env": None,
    "service": {"name", "mode", "ray_port", "envs"},
    "chip": {"hostfile_type"},
}
# A longer text is kept by its beginning and its hash.
LONGEST = 160
# What a line of ``differences`` is about → the settings that say the same better.
EXPLAINED = {
    "mode": ("service.mode",),
    "model": ("engine.served_model_name",),
    "port": ("engine.port",),
    "container": ("container.name",),
    "engine": ("engine.",),
    "env or an interface": ("env.",),
    "patch or vllm.build": ("patch.", "vllm.build", "python."),
}


def texts_of(settings: Settings) -> dict[str, str]:
    """``{"engine.max_num_seqs": "256"}``: what was set, secrets and what stands at r1deploy's own default left out."""
    given = settings.model_dump(exclude_defaults=True)
    found: dict[str, str] = {}
    for section, names in SECTIONS.items():
        value = given.get(section)
        if isinstance(value, Mapping) and names is not None:
            value = {name: row for name, row in value.items() if name in names}
        found.update(_flat((section,), value))
    return found


def _flat(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, str]]:
    """A dotted path and a text for each value below a setting."""
    if isinstance(value, Mapping):
        for name, row in value.items():
            yield from _flat((*path, str(name)), row)
    elif value is not None and not redact.names_a_secret(path[-1]):
        shown = redact.hide_in(redact.shown(path, value))
        text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
        yield ".".join(path), text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({digest(text)})"


def changed(was: Texts, now: Texts) -> dict[str, str]:
    """Setting → ``was → now``, for those that differ."""
    names = [*now, *(name for name in was if name not in now)]
    return {
        name: f"{was.get(name, 'not set')} → {now.get(name, 'not set')}"
        for name in names
        if was.get(name) != now.get(name)
    }


def causes(old: Record, new: Record, was: Texts | None, now: Texts | None) -> tuple[str, ...]:
    """What two releases differ in, a line each: settings by name where those of both are known."""
    named = changed(was, now) if was and now else {}
    rows = [f"{name}: {values}" for name, values in named.items()]
    for row in differences(old, new):
        better = EXPLAINED.get(row.partition(":")[0], ())
        if not any(name.startswith(better) for name in named if better):
            rows.append(row)
    return tuple(rows)


def known(active: Active | None, record: Record) -> Texts | None:
    """The settings of a release, where ``serve`` wrote them down."""
    kept = active.settings.get(f"{record.release}/{record.config}") if active else None
    return kept.root if kept else None
