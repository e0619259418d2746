"""FlagGems, switched on in this process, with a record of what it registers under which name."""

from __future__ import annotations

import importlib
from typing import Any, Dict, NamedTuple, Sequence

Switch = Dict[str, Any]


class Recorder:
    """In place of FlagGems' library: passes on what is registered, and keeps (the dispatcher's name, the function's).

    Every version registers through ``lib.impl(name, function, key)``; ``unused`` takes the names of functions.
    """

    def __init__(self, library: Any) -> None:
        self.library = library
        self.registered: list[tuple[str, str]] = []

    def impl(self, name: str, function: Any, *args: Any, **options: Any) -> Any:
        done = self.library.impl(name, function, *args, **options)
        self.registered.append((str(name), str(getattr(function, "__name__", name))))
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)


class Enabled(NamedTuple):
    """What FlagGems took over: (the dispatcher's name, the name of its function)."""

    registered: tuple[tuple[str, str], ...] = ()

    def serves(self, atens: Sequence[str]) -> bool:
        """Whether one of these goes to FlagGems."""
        return bool({name for name, _ in self.registered} & set(atens))

    def switches(self, atens: Sequence[str]) -> list[Switch]:
        """By base, the names that switch it off, every variant spelled out: addmm, addmm_out, …"""
        bases = list(dict.fromkeys(base_of(name) for name in atens))
        named = [(base, {function for name, function in self.registered if base_of(name) == base}) for base in bases]
        return [{"base": base, "names": sorted(names)} for base, names in named if names]


def base_of(aten: str) -> str:
    """``add_.Tensor`` → add: variants of one operator have one base."""
    return aten.split(".")[0].strip("_")


def enable(unused: Sequence[str]) -> Enabled:
    """Switch FlagGems on, without the unused. Once a process. Raises whatever it raises."""
    gems = importlib.import_module("flag_gems")
    recorder = Recorder(gems.aten_lib)
    gems.enable(lib=recorder, unused=list(unused))
    return Enabled(tuple(recorder.registered))


def versions() -> dict[str, str]:
    """Of the parts that have to fit each other; "" where one is not there."""
    found = {}
    for name in ("torch", "triton", "flag_gems"):
        try:
            found[name] = str(getattr(importlib.import_module(name), "__version__", "?"))
        except Exception:  # any: a package that is half there fails in its own way
            found[name] = ""
    return found
