"""The engines that the lab can serve with, as data: image, patch, weights, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from r1deploy.lab import images
from r1deploy.lab.images import Recipe
from r1deploy.lab.laberrors import LabError
from r1deploy.lab.realupstreams import Upstream


@dataclass(frozen=True)
class Engine:
    """What differs between the engines.

    ``patch`` is a folder below ``standins/patches``, ``weights`` one below the
    share's models, ``settings`` lines that go into a section of r1deploy.yaml.
    """

    name: str
    image: Recipe
    patch: str
    weights: str
    random_weights: bool = False
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


LIGHT = Engine(
    name="light",
    image=images.VENDOR,
    patch="vllm",
    weights="DeepSeek-R1_INT8",
    settings={"service": ("join_timeout: 60", "ready_timeout: 180")},
)

VLLM = Engine(
    name="vllm",
    image=images.VENDOR_VLLM,
    patch="vllm-cpu",
    weights="DeepSeek-V3-random",
    random_weights=True,
    settings={
        "engine": (
            "# vLLM's CPU platform refuses Ray: the lab's patch of vLLM runs one process on the head,",
            "# whatever tp and pp say. Ray itself is real and spans all hosts.",
            "max_num_seqs: 8",
            "extra:",
            "  enforce_eager: true",
            "  dtype: bfloat16",
        ),
        "env": (
            'VLLM_CPU_KVCACHE_SPACE: "1"',
            'HF_HUB_OFFLINE: "1"',
            'VLLM_NO_USAGE_STATS: "1"',
            'RAY_USAGE_STATS_ENABLED: "0"',
        ),
        "service": ("join_timeout: 120", "ready_timeout: 600"),
    },
)

ENGINES = {engine.name: engine for engine in (LIGHT, VLLM)}


def choose(name: str, real: Mapping[str, Upstream]) -> Engine:
    """The engine of that name, with an image that holds what the real upstreams import. Raises LabError."""
    if name not in ENGINES:
        raise LabError(f"there is no engine {name}", f"one of {', '.join(ENGINES)}")
    if "FlagGems" in real:
        what = "the real FlagGems cannot be imported in the lab: it asks for Triton and for a device at its import"
        raise LabError(what, "leave it out: the stand-in FlagGems keeps its contract")
    engine = ENGINES[name]
    if name == "light" and "vllm" in real:
        raise LabError("the light engine cannot be laid over the real vLLM", "r1deploy lab up --engine vllm …")
    if name == "light" and "FlagScale" in real:
        return replace(engine, image=images.VENDOR_UPSTREAM)
    return engine
