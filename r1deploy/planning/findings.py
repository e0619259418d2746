"""One finding of preflight, and which verbs it forbids."""

from __future__ import annotations

from dataclasses import dataclass

BOTH = frozenset({"bootstrap", "serve"})
SERVE = frozenset({"serve"})
BOOTSTRAP = frozenset({"bootstrap"})


@dataclass(frozen=True)
class Check:
    """One finding: ``code`` is stable, ``host`` None where the cluster as a whole is meant.

    A ``warning`` is ``ok``: it forbids nothing and has no exit code.
    """

    name: str
    host: str | None
    ok: bool
    detail: str
    code: str
    fix: str | None = None
    blocks: frozenset[str] = BOTH
    warning: bool = False
