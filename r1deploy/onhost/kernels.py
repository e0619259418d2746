"""``diag kernels`` on a host: each operator against its fp64 reference, in a process of its own.

The order (JSON): ``flaggems`` (whether it is switched on), ``unused`` (its functions that stay off), ``device``
("cuda", "cpu"), ``chips``, ``jobs`` (processes at a time; 0: by the cores), ``deadline`` (seconds an operator),
``tokens`` (sizes), ``only`` (names of operators; none means all). Rows: ``versions``, then ``case`` and ``operator`` as
they end, ``done``.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from typing import Any, Callable, Dict, Mapping, NamedTuple, Sequence

from . import flaggems
from .children import Listener, Task, Tell, run_all, why
from .operators import OPERATORS, Case, Inputs, Looked, Operator, bound_of, cases_of
from .orders import KERNELS, order_of
from .saying import say

SAMPLED, EDGE, POISON = 1024, 64, 1 << 28
# References take memory too: not more processes than MOST_JOBS, however many cores there are.
CORES_A_JOB, MOST_JOBS = 4, 16
Order = Mapping[str, Any]
Row = Dict[str, Any]


class Ready(NamedTuple):
    """A case before FlagGems is on: its inputs on the chip, the reference and the inputs of it on the CPU."""

    case: Case
    inputs: list[Any]
    reference: list[Any]
    looked: Any
    sample: Any | None


def listed(found: Any) -> list[Any]:
    """An operator's answer as a list of tensors."""
    return list(found) if isinstance(found, list) else [found]


def sample_of(torch: Any, operator: Operator, tokens: int) -> Any | None:
    """Rows to compare where there are many: the edges, and some between; None means all."""
    if not operator.rows or tokens <= SAMPLED:
        return None
    between = torch.arange(EDGE, tokens - EDGE, (tokens - 2 * EDGE) // (2 * EDGE))
    return torch.cat([torch.arange(EDGE), between, torch.arange(tokens - EDGE, tokens)])


def reference_of(torch: Any, operator: Operator, inputs: list[Any], sample: Any | None) -> list[Any]:
    """The right answer, of the same rounded inputs: in fp64, or as the CPU moves the numbers."""
    chosen = [x[sample] if sample is not None and n in operator.rows else x for n, x in enumerate(inputs)]
    if operator.exact:
        return listed(operator.call(torch, [x.clone() for x in chosen]))
    return listed(operator.call(torch, [x.double() if x.is_floating_point() else x.clone() for x in chosen]))


def prepare(torch: Any, operator: Operator, case: Case, device: Any) -> Ready:
    """Inputs from a fixed seed, on the CPU and on the chip, and the reference."""
    inputs = operator.make(Inputs(torch, f"{operator.name} {case.name}", case.dtype), case.tokens)
    sample = sample_of(torch, operator, case.tokens)
    reference = reference_of(torch, operator, inputs, sample)
    looked = inputs[0] if any(isinstance(x, Looked) for x in reference) else None
    return Ready(case, [x.clone().to(device) for x in inputs], reference, looked, sample)


def answer_of(found: Any, ready: Ready) -> Any:
    """The answer on the CPU; indices become the values that they lead to."""
    if isinstance(found, Looked):
        return ready.looked.gather(-1, found.where.cpu())
    return found.cpu()


def error_of(torch: Any, operator: Operator, found: Any, wanted: Any) -> tuple[float | None, str]:
    """(the relative error, or the share that differs of what is moved; what is wrong besides). None: no number."""
    if tuple(found.shape) != tuple(wanted.shape):
        return None, f"the shape is {tuple(found.shape)}, not {tuple(wanted.shape)}"
    if operator.exact:
        if found.dtype != wanted.dtype:
            return None, f"the type is {found.dtype}, not {wanted.dtype}"
        return float((found != wanted).double().mean()), ""
    if not bool(torch.isfinite(found).all()):
        return None, "NaN or infinite numbers in the answer"
    return float((found.double() - wanted).norm() / wanted.norm()), ""


def judged(torch: Any, operator: Operator, ready: Ready, outputs: list[Any]) -> Row:
    """How far the answer is from the reference, and the verdict."""
    bound, worst, last = bound_of(operator, ready.case.dtype), 0.0, ""
    for found, wanted in zip(outputs, ready.reference):
        here, there = answer_of(found, ready), answer_of(wanted, ready)
        if ready.sample is not None:
            if not bool(torch.isfinite(here).all()):
                return {"error": None, "verdict": "wrong", "last": "NaN or infinite numbers in the answer"}
            here = here[ready.sample]
        error, last = error_of(torch, operator, here, there)
        if error is None:
            return {"error": None, "verdict": "wrong", "last": last}
        worst = max(worst, error)
    return {"error": worst, "verdict": "right" if worst <= bound else "wrong", "last": last}


def attempt(torch: Any, operator: Operator, ready: Ready, settle: Callable[[], None]) -> Row:
    """The first call of one case, by its effect. Never raises an Exception."""
    began = time.monotonic()
    try:
        found = listed(operator.call(torch, ready.inputs))
        settle()
        seconds = time.monotonic() - began
        return dict(judged(torch, operator, ready, found), seconds=round(seconds, 4), size=size_of(found))
    except Exception as error:  # any: that is what is looked for
        seconds = round(time.monotonic() - began, 4)
        return {"error": None, "verdict": "failed", "last": why(error), "seconds": seconds, "size": []}


def size_of(found: list[Any]) -> list[int]:
    """The shape of an answer."""
    first = found[0].where if isinstance(found[0], Looked) else found[0]
    return list(first.shape)


def settled(torch: Any, kind: str) -> Callable[[], None]:
    """What waits until the chip is idle, and raises where a kernel failed."""
    wait = getattr(getattr(torch, kind, None), "synchronize", None)
    return wait if callable(wait) else lambda: None


def poison(torch: Any, device: Any) -> None:
    """Memory that is given out next holds NaN: what is not written shows."""
    torch.full((POISON // 4,), float("nan")).to(device)


def examine(order: Order, number: int, tell: Tell) -> None:
    """One operator, in its own process: all is prepared before FlagGems is on. Raises what FlagGems raises."""
    operator = OPERATORS[number]
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // order["jobs"]))
    torch.set_grad_enabled(False)
    kind = order["device"]
    device = torch.device(kind, number % order["chips"]) if kind != "cpu" else torch.device(kind)
    cases = [prepare(torch, operator, case, device) for case in cases_of(operator, order["tokens"])]
    if kind != "cpu":
        getattr(torch, kind).set_device(device)
        poison(torch, device)
    began = time.monotonic()
    gems = flaggems.enable(order["unused"]) if order["flaggems"] else flaggems.Enabled()
    enabling = round(time.monotonic() - began, 2)
    serves = gems.serves(operator.atens)
    tell({"kind": "from", "from_flaggems": serves, "switches": gems.switches(operator.atens), "enabling": enabling})
    settle = settled(torch, kind)
    while cases:
        ready = cases.pop(0)
        tell({"kind": "begun", "case": ready.case.name})
        row = attempt(torch, operator, ready, settle)
        tell(dict(row, kind="case", case=ready.case.name))
        if row["verdict"] == "failed":
            settle()  # raises where the process is worthless now


class Table(Listener):
    """Says the rows of all operators; those of a process that is gone are made here."""

    def __init__(self, order: Order) -> None:
        self.tokens, self.flaggems = order["tokens"], order["flaggems"]
        self.named = {operator.name: operator for operator in OPERATORS}
        self.begun: dict[str, str] = {}
        self.came: dict[str, Row] = {}
        self.seen: dict[str, list[str]] = {}

    def row(self, task: Task, row: Row) -> None:
        if row["kind"] == "from":
            self.came[task.name] = row
        elif row["kind"] == "begun":
            self.begun[task.name] = row["case"]
        else:
            self.seen.setdefault(task.name, []).append(row.pop("case"))
            self.say(task.name, self.seen[task.name][-1], row)

    def say(self, name: str, case: str, row: Row) -> None:
        """One case, with all that a reader needs beside it."""
        dtype, tokens = case.split()
        came = self.came.get(name, {}).get("from_flaggems", False)
        bound = bound_of(self.named[name], dtype)
        rest = {key: value for key, value in row.items() if key != "kind"}
        say("case", operator=name, dtype=dtype, tokens=int(tokens), bound=bound, from_flaggems=came, **rest)

    def ended(self, task: Task, how: str, last: str) -> None:
        begun, seen = self.begun.get(task.name), self.seen.get(task.name, [])
        for case in cases_of(self.named[task.name], self.tokens):
            if how == "done" or case.name in seen:
                continue
            at_fault = begun is None or case.name == begun
            verdict = how if at_fault else "missing"
            text = last if at_fault else f"not run: {last}"
            row: Row = {"error": None, "verdict": verdict, "last": text, "seconds": None, "size": []}
            self.say(task.name, case.name, row)
        came = self.came.get(task.name, {"from_flaggems": False, "switches": [], "enabling": None})
        rest = {key: came[key] for key in ("from_flaggems", "switches", "enabling")}
        say("operator", operator=task.name, ended=how, last=last, flaggems=self.flaggems, **rest)


class Heard(Listener):
    """Says a row as it comes."""

    def row(self, task: Task, row: Row) -> None:
        say(**row)


def look(order: Order, tell: Tell) -> None:
    """The versions of what has to fit, and the chip's name. In a process of its own."""
    torch: Any = importlib.import_module("torch")
    chip = platform.processor() or "cpu"
    if order["device"] != "cpu":
        chip = str(getattr(torch, order["device"]).get_device_name(0))
    found = flaggems.versions() if order["flaggems"] else {"torch": str(torch.__version__)}
    tell(dict(found, kind="versions", chip=chip, python=platform.python_version(), flaggems=order["flaggems"]))


def task_of(order: Order, number: int) -> Task:
    """One operator's task."""
    return Task(OPERATORS[number].name, lambda tell: examine(order, number, tell), order["deadline"])


def jobs_of(cores: int) -> int:
    """How many operators are at work at a time."""
    return max(1, min(MOST_JOBS, cores // CORES_A_JOB))


def run_operators(order: Order, numbers: Sequence[int], listener: Listener) -> None:
    """Compare these operators, as many at a time as the order says, or the cores."""
    jobs = order["jobs"] or jobs_of(os.cpu_count() or 1)
    run_all([task_of({**order, "jobs": jobs}, number) for number in numbers], jobs, listener)


def main(text: str) -> int:
    """Compare all operators; the exit code. Torch is loaded once, before the processes part; no chip is touched."""
    order = order_of(KERNELS, text)
    began = time.monotonic()
    run_all([Task("versions", lambda tell: look(order, tell), order["deadline"])], 1, Heard())
    importlib.import_module("torch")
    numbers = [n for n, operator in enumerate(OPERATORS) if not order["only"] or operator.name in order["only"]]
    run_operators(order, numbers, Table(order))
    say("done", seconds=round(time.monotonic() - began, 1), operators=len(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "{}"))
