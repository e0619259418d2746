"""``diag chips`` on a host: every chip at once, a process each: its memory, a product twice, its speed.

The order (JSON): ``device``, ``chips`` (0: all that torch sees), ``deadline``, ``share`` of the free memory,
``memory_seconds`` (bound on filling it), ``side`` of the product that is summed, ``speed`` (side of the timed one),
``copy`` (bytes). Rows: ``chip`` (one each), ``done``.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import sys
import time
from typing import Any, Callable, Dict, Mapping

from .children import Listener, Task, Tell, run_all
from .kernels import settled
from .operators import FLOATS, Inputs
from .orders import CHIPS, order_of
from .saying import say

CHUNK = 1 << 30
KEYS = (0x5A5A5A5A, -0x5A5A5A5B)
ROUNDS = 8
SMALL = {"cpu": 1 << 28}
Order = Mapping[str, Any]
Row = Dict[str, Any]


def count(order: Order, tell: Tell) -> None:
    """How many chips torch sees: in a process of its own, since asking may start the driver."""
    torch: Any = importlib.import_module("torch")
    module = getattr(torch, order["device"])
    tell({"count": int(module.device_count())})


def identity(torch: Any, device: Any) -> Row:
    """What torch knows of a chip: its name, its UUID where it knows one, its memory."""
    if device.type == "cpu":
        return {"name": "cpu", "uuid": "", "total": SMALL["cpu"], "free": SMALL["cpu"]}
    module = getattr(torch, device.type)
    about = module.get_device_properties(device)
    free, total = module.mem_get_info(device)
    uuid = str(getattr(about, "uuid", ""))
    named = f"GPU-{uuid}" if uuid and not uuid.startswith("GPU-") else uuid
    return {"name": str(about.name), "uuid": named, "total": int(total), "free": int(free)}


def memory(torch: Any, device: Any, wanted: int, seconds: float) -> Row:
    """Fill memory by a pattern that tells places apart and read it back, then its complement, until time is over."""
    began = time.monotonic()
    size = max(1 << 20, min(CHUNK, wanted // 4))
    places = torch.arange(size // 4, dtype=torch.int32).to(device)
    held: list[Any] = []
    while (len(held) + 3) * size <= wanted and time.monotonic() - began < seconds / 2:
        held.append(torch.empty_like(places))
    bad, passes = set(), 0
    for key in KEYS:
        if passes and time.monotonic() - began > seconds / 2:
            break
        for number, chunk in enumerate(held):
            torch.bitwise_xor(places, key + number, out=chunk)
        bad |= {n for n, chunk in enumerate(held) if not torch.equal(chunk.bitwise_xor_(key + n), places)}
        passes += 1
    spent = round(time.monotonic() - began, 2)
    return {"tested": (len(held) + 1) * size, "bad_chunks": len(bad), "passes": passes, "memory_seconds": spent}


def digest(tensor: Any) -> str:
    """sha256 of the bytes of a tensor on the CPU."""
    tensor = tensor.contiguous()
    data = ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())
    return hashlib.sha256(data).hexdigest()


def sums(torch: Any, device: Any, side: int) -> dict[str, list[str]]:
    """The checksums of a product of fixed inputs, made twice, in each type."""
    found = {}
    for dtype in FLOATS:
        made = Inputs(torch, "chips", dtype)
        left, right = made.normal(side, side).to(device), made.weight(side, side).to(device)
        found[dtype] = [digest(torch.mm(left, right).cpu()) for _ in range(2)]
    return found


def timed(work: Callable[[], Any], settle: Callable[[], None]) -> float:
    """Seconds of one call, from the median of some, after two to warm up."""
    work(), work()
    settle()
    spent = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        settle()
        spent.append(time.perf_counter() - began)
    return sorted(spent)[ROUNDS // 2]


def speeds(torch: Any, device: Any, order: Order) -> tuple[float, float]:
    """(TFLOP/s of a large product in bf16, GB/s of a copy, read and written)."""
    settle, side = settled(torch, device.type), order["speed"]
    made = Inputs(torch, "speed", "bf16")
    block = made.normal(side, min(side, 512)).to(device)
    left = block.repeat(1, side // block.shape[1])
    right, out = left.t().contiguous(), torch.empty_like(left)
    product = timed(lambda: torch.mm(left, right, out=out), settle)
    source = torch.arange(order["copy"] // 4, dtype=torch.int32).to(device)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), settle)
    return 2 * side**3 / product / 1e12, 2 * order["copy"] / copy / 1e9


def examine(order: Order, index: int, tell: Tell) -> None:
    """One chip. What is found is told part by part: of a chip that fails, what was before is known."""
    torch: Any = importlib.import_module("torch")
    torch.set_grad_enabled(False)
    kind = order["device"]
    device = torch.device(kind) if kind == "cpu" else torch.device(kind, index)
    if kind != "cpu":
        getattr(torch, kind).set_device(device)
    about = identity(torch, device)
    tell(about)
    tell({"sums": sums(torch, device, order["side"])})
    tflops, gbs = speeds(torch, device, order)
    tell({"tflops": round(tflops, 3), "gbs": round(gbs, 2)})
    if kind != "cpu":
        getattr(torch, kind).empty_cache()
    tell(memory(torch, device, int(about["free"] * order["share"]), order["memory_seconds"]))


class Chips(Listener):
    """One row a chip, when its process is over."""

    def __init__(self) -> None:
        self.found: dict[str, Row] = {}
        self.last = ""

    def row(self, task: Task, row: Row) -> None:
        self.found.setdefault(task.name, {}).update(row)

    def ended(self, task: Task, how: str, last: str) -> None:
        self.last = last
        if task.name != "count":
            say("chip", index=int(task.name), ended=how, last=last, **self.found.get(task.name, {}))


def task_of(order: Order, index: int) -> Task:
    """One chip's task."""
    return Task(str(index), lambda tell: examine(order, index, tell), order["deadline"])


def main(text: str) -> int:
    """Every chip at once; the exit code."""
    order = order_of(CHIPS, text)
    began, chips = time.monotonic(), Chips()
    number = order["chips"]
    if not number:
        run_all([Task("count", lambda tell: count(order, tell), order["deadline"])], 1, chips)
        number = chips.found.get("count", {}).get("count", 0)
    run_all([task_of(order, index) for index in range(number)], number, chips)
    say("done", chips=number, seconds=round(time.monotonic() - began, 1), last="" if number else chips.last)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "{}"))
