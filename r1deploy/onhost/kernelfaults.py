"""What is wrong with an operator, in the words that ``diag kernels`` and the proof of ``install`` share. Pure."""

from __future__ import annotations

import re
from typing import Sequence

_CLASS = re.compile(r"^(?:[A-Za-z_][A-Za-z0-9_.]*(?:Error|Exception): )+")
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def cause_of(last: str) -> str:
    """The line that failures have in common: without the exception's class, with no address in it."""
    return _ADDRESS.sub("0x…", _CLASS.sub("", last)) or last


def fault_of(operator: str, dtype: str, verdict: str, last: str) -> str:
    """Why a case is not right; cases of one cause say the same. A wrong answer is its operator's own."""
    if verdict != "wrong":
        return cause_of(last)
    return f"{operator} is wrong in {dtype}" + (f" ({last})" if last else "")


def sentence_of(operators: Sequence[str], cause: str) -> str:
    """``12 operators: 'JITFunction' object has no attribute 'arg_defaults'``."""
    if len(operators) > 1:
        return f"{len(operators)} operators: {cause}"
    return cause if cause.startswith(f"{operators[0]} ") else f"{operators[0]}: {cause}"
