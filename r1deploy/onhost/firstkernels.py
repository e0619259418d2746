"""The first part of ``diag kernels``: a few operators of FlagGems on a chip, as the proof of its installation.

Python in the container runs it: ``python3 -m onhost.firstkernels ORDER FILE``. The order (JSON): ``device`` (what
PyTorch calls the chip; "" where no engine uses FlagGems), ``deadline`` (seconds an operator). The rows of ``kernels``
go to standard output, for the log. FILE gets, as JSON, ``right`` and ``said``: what was verified, or why nothing was;
else what is broken, a line a cause.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, NamedTuple, Sequence

from . import flaggems, kernels
from .children import Listener, Task, Tell, run_all
from .kernelfaults import fault_of, sentence_of
from .operators import OPERATORS
from .orders import KERNELS

OPERATOR_NAMES = ("embedding", "mm", "addmm", "rmsnorm", "silu", "softmax", "topk", "argmax")
# One token is a case of its own to a compiler; the other number is divided by no block.
TOKENS = (1, 37)
# With less of a chip's memory free something works there: beside it nothing is verified.
FREE = 0.5
# Sentences that are told.
MOST = 4
# Names of functions of FlagGems that stay off in the engine too.
UNUSED = "VLLM_FL_FLAGOS_BLACKLIST"


class Answer(NamedTuple):
    """What came of the proof: whether nothing was found wrong, and what to tell."""

    right: bool
    said: str


def least_free(torch: Any, device: str, chips: int) -> float:
    """The smallest share of memory that is free on a chip; 1 where PyTorch cannot say. Raises what PyTorch raises."""
    ask = getattr(getattr(torch, device), "mem_get_info", None)
    if ask is None:
        return 1.0
    try:
        return min(float(free / total) for free, total in map(ask, range(chips)))
    except Exception as error:  # any: its class is another one in each version
        if "out of memory" in str(error):
            return 0.0
        raise


def look(device: str, tell: Tell) -> None:
    """The versions, the number of chips that PyTorch sees, and how free they are. In a process of its own."""
    torch: Any = importlib.import_module("torch")
    found = getattr(torch, device, None)
    chips = int(found.device_count()) if found is not None and found.is_available() else 0
    versions = ", ".join(f"{name} {version or '(none)'}" for name, version in flaggems.versions().items())
    tell({"chips": chips, "versions": versions})
    if chips:
        tell({"free": least_free(torch, device, chips)})


class Looked(Listener):
    """What the look found; ``how`` and ``last`` as it ended."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {"chips": 0, "versions": ""}
        self.how, self.last = "", ""

    def row(self, task: Task, row: dict[str, Any]) -> None:
        self.found.update(row)

    def ended(self, task: Task, how: str, last: str) -> None:
        self.how, self.last = how, last

    def answer(self, device: str) -> Answer | None:
        """What to say where nothing is to be verified here; None: there are chips, and they are free."""
        chips, versions = self.found["chips"], self.found["versions"]
        if self.how == "hung" or (self.how == "failed" and chips):
            return broken([f"a look at the chips: {self.last}"], versions)
        if self.how == "failed":
            return unchecked(self.last)
        if not chips:
            return unchecked(f"PyTorch sees no chip ({device}) in the container")
        if self.found["free"] < FREE:
            return unchecked("the memory of the chips is in use")
        return None


def unchecked(why: str) -> Answer:
    """The import was the proof."""
    return Answer(True, f"kernels: not checked here, FlagGems was imported only: {why}")


def broken(sentences: Sequence[str], versions: str) -> Answer:
    """What is broken, that of most operators first, and what may not fit each other."""
    return Answer(False, "\n".join([f"FlagGems does not compute right: {sentences[0]}", *sentences[1:MOST], versions]))


class Judge(kernels.Table):
    """Says the rows, and keeps the causes of what is not right, with their operators."""

    def __init__(self, order: kernels.Order) -> None:
        super().__init__(order)
        self.causes: dict[str, dict[str, None]] = {}

    def say(self, name: str, case: str, row: kernels.Row) -> None:
        super().say(name, case, row)
        if row["verdict"] not in ("right", "missing"):
            cause = fault_of(name, case.split()[0], row["verdict"], row["last"])
            self.causes.setdefault(cause, {})[name] = None

    def sentences(self) -> list[str]:
        """A sentence a cause, that of most operators first."""
        ordered = sorted(self.causes.items(), key=lambda one: (-len(one[1]), one[0]))
        return [sentence_of(list(names), cause) for cause, names in ordered]


def proof(device: str, deadline: float) -> Answer:
    """Compare the operators, each in a process of its own that is ended after so many seconds."""
    if not device:
        return unchecked("the engine is not told to use it")
    looked = Looked()
    run_all([Task("look", lambda tell: look(device, tell), deadline)], 1, looked)
    answer = looked.answer(device)
    if answer is not None:
        return answer
    chips, versions = looked.found["chips"], looked.found["versions"]
    unused = [name for name in os.environ.get(UNUSED, "").split(",") if name]
    asked = {"device": device, "deadline": deadline, "chips": chips, "tokens": TOKENS, "unused": unused}
    order = {**KERNELS, **asked, "flaggems": True}
    importlib.import_module("torch")  # once, before the processes part; it touches no chip
    numbers = [n for n, operator in enumerate(OPERATORS) if operator.name in OPERATOR_NAMES]
    judge = Judge(order)
    kernels.run_operators(order, numbers, judge)
    without = f", without {', '.join(unused)}" if unused else ""
    if judge.causes:
        return broken(judge.sentences(), versions)
    by_gems = sum(row["from_flaggems"] for row in judge.came.values())
    return Answer(True, f"kernels: {len(numbers)} operators are right, {by_gems} by FlagGems{without} ({versions})")


def main(order: str, file: str) -> int:
    """Prove, and write the answer; the exit code. Raises OSError, ValueError."""
    asked = json.loads(order)
    answer = proof(asked["device"], asked["deadline"])
    print(answer.said)
    with open(file, "w", encoding="utf-8") as stream:
        json.dump(answer._asdict(), stream)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
