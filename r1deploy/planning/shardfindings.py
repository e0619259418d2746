"""The one judge of a checkpoint: what its headers and sizes say, as a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r1deploy.planning.observed import Weights
from r1deploy.settings.model import Settings
from r1deploy.units import size_of

ELSEWHERE = "put the files themselves there, or mount that folder at the same path in container.volumes"


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a copy; ``code`` None: it is whole. ``fix`` None: whoever asked knows what mends it."""

    said: str
    code: str | None = None
    fix: str | None = None


def judged(seen: Weights, place: str) -> Verdict:
    """Judge a copy of the checkpoint, by the first thing that is wrong. In: what was seen of it; its place in words."""
    return next(faults(seen, place), Verdict(f"{seen.shards} shards, {size_of(seen.bytes)}"))


def faults(seen: Weights, place: str) -> Iterator[Verdict]:
    """All that is wrong with a copy, what hides the rest first."""
    if seen.outside:
        links = [f"{seen.path if name == '.' else name} leads to {to}" for name, to in seen.outside.items()]
        yield Verdict(f"{', '.join(links)}: no volume of the container has that", "WEIGHTS_MISSING", ELSEWHERE)
    if not seen.exists:
        yield Verdict(f"{place} is not there", "WEIGHTS_MISSING")
        return
    if not seen.shards:
        yield Verdict(f"{place}: no safetensors", "WEIGHTS_MISSING")
    if not seen.config:
        yield Verdict(f"{place}: no config.json", "WEIGHTS_MISSING")
    if seen.missing or seen.bad:
        yield Verdict(f"{place}: {damage(seen)}", "WEIGHTS_DAMAGED")


def damage(seen: Weights) -> str:
    """Missing and broken shards of a copy."""
    said = [f"missing {few(seen.missing)}"] if seen.missing else []
    bad = [f"{name} ({seen.why[name]})" if name in seen.why else name for name in seen.bad]
    said += [f"truncated or damaged {few(bad)}"] if bad else []
    return "; ".join(said)


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


@dataclass(frozen=True)
class Memory:
    """One chip's memory in MiB: what the weights take of the fullest, what the engine may take, and the arithmetic.

    ``layers``: those of the largest stage, None where they are not known.
    """

    weights: float
    room: float
    layers: int | None
    said: str


def memory_of(settings: Settings, size: int, layers: int | None) -> Memory:
    """What a checkpoint of ``size`` bytes takes of one chip.

    Layers are not cut: with 61 of them on 4 stages the largest holds 16, which is more than a quarter.
    """
    engine, chip = settings.engine, settings.chip
    tp, pp = engine.tensor_parallel_size, engine.pipeline_parallel_size
    each = size / (tp * pp) / 2**20
    room = chip.memory_mib * engine.gpu_memory_utilization
    most = -(-layers // pp) if layers else None
    said = f"{size / 2**30:.1f} GiB / (tp {tp} × pp {pp}) = {each:.0f} MiB a chip"
    if layers and most and layers % pp:
        each = size * most / layers / tp / 2**20
        said += f", {each:.0f} MiB in the stage with {most} of {layers} layers"
    said += f"; {chip.memory_mib} MiB × {engine.gpu_memory_utilization:g} = {room:.0f} MiB"
    return Memory(each, room, most, said)


def fits(settings: Settings, size: int, layers: int | None) -> tuple[bool, str]:
    """Whether a checkpoint of ``size`` bytes fits, and the arithmetic."""
    memory = memory_of(settings, size, layers)
    return memory.weights < memory.room, memory.said
