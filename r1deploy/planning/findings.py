"""One finding of preflight, and which verbs it forbids."""

from __future__ import annotations

from dataclasses import dataclass, replace

BOTH = frozenset({"bootstrap", "serve"})
SERVE = frozenset({"serve"})
BOOTSTRAP = frozenset({"bootstrap"})


@dataclass(frozen=True)
class Check:
    """One finding, made by ``passed``, ``failed`` or ``warned``: ``host`` None where the cluster as a whole is meant.

    ``code`` is stable, and None where nothing is wrong. A ``warning`` is ``ok``: it forbids nothing.
    """

    name: str
    host: str | None
    ok: bool
    detail: str
    code: str | None = None
    fix: str | None = None
    blocks: frozenset[str] = BOTH
    warning: bool = False

    def at(self, host: str | None) -> Check:
        """The same finding on a host."""
        return replace(self, host=host)


def passed(name: str, detail: str) -> Check:
    """What was looked at is as it should be."""
    return Check(name, None, True, detail)


def failed(code: str, name: str, detail: str, fix: str | None = None, blocks: frozenset[str] = BOTH) -> Check:
    """A blocker for the verbs that it names."""
    return Check(name, None, False, detail, code, fix, blocks)


def warned(code: str, name: str, detail: str, fix: str) -> Check:
    """What somebody should know: it has no exit code and forbids nothing."""
    return Check(name, None, True, detail, code, fix, frozenset(), warning=True)
