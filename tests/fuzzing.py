"""What the tests with random input share: how many examples, nearly right texts, an error that can be shown."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from r1deploy.errors import ErrorCode, R1Error

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def quick(examples: int) -> Any:
    """So many examples in the everyday run, FUZZ_EXAMPLES of them in a long one."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
    return fuzz(max_examples=EXAMPLES or examples, deadline=None, suppress_health_check=checks)


def edits(valid: st.SearchStrategy[str], pieces: list[str]) -> st.SearchStrategy[str]:
    """A right text with a few things put in, taken out or replaced: nearer to the rules' edges than any random text."""

    @st.composite
    def edited(draw: st.DrawFn) -> str:
        text = draw(valid)
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(text)))
            end = min(len(text), start + draw(st.sampled_from([0, 0, 0, 1, 2, 8])))
            text = text[:start] + draw(st.sampled_from(pieces) | st.characters()) + text[end:]
        return text

    return edited()


def ours(error: R1Error) -> None:
    """The error can be shown: a registered code, text that any terminal takes, no control characters."""
    assert error.code in ErrorCode
    lines = "\n".join([error.message, *error.evidence, error.fix or ""])
    assert lines.encode("utf-8")
    assert not [char for char in lines if char != "\n" and not char.isprintable()], ascii(lines)
