"""``diag network`` in the container: an all-reduce and a broadcast over all ranks, with sums that must be exact.

The order (JSON): see ``orders.COLLECTIVES``; the environment is that of ``env.sh``. Before the library is started the
ranks meet at a store of rank 0, which names those that did not come. Rows: ``absent`` (of rank 0), ``collective`` (one
a rank, operation and size), ``rank`` (one each, when it is over), ``done``.
"""

from __future__ import annotations

import importlib
import sys
import time
from datetime import timedelta
from typing import Any, Callable, Dict, Mapping

from .children import Listener, Task, Tell, run_all, why
from .kernels import settled
from .orders import COLLECTIVES, order_of
from .saying import say

# Numbers up to this: of 5 000 ranks the sum is exact in fp32.
PERIOD = 251
PAUSE = 0.05
Order = Mapping[str, Any]
Row = Dict[str, Any]


class Absence(Exception):
    """Ranks that others waited for did not come."""


def last_line(error: BaseException) -> str:
    """What the library says itself: NCCL puts it behind its own lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Last error:" in lines[:-1]:
        return f"{type(error).__name__}: {lines[lines.index('Last error:') + 1]}"[:400]
    behind = [line.split("Last error:", 1)[1].strip() for line in lines if "Last error:" in line]
    return f"{type(error).__name__}: {behind[0]}"[:400] if behind and behind[0] else why(error)


def meet(distributed: Any, order: Order, rank: int, tell: Tell) -> Any:
    """The store where every rank has come. Raises Absence where one has not, and what the store raises."""
    wait, world = timedelta(seconds=order["wait"]), len(order["names"])
    store = distributed.TCPStore(
        order["address"], order["port"], is_master=rank == 0, timeout=wait, wait_for_workers=False
    )
    store.set(f"here {rank}", "1")
    if rank:
        store.set_timeout(2 * wait)
        gone = store.get("verdict").decode()
    else:
        missing = absent(store, world, time.monotonic() + order["wait"])
        gone = ", ".join(order["names"][number] for number in missing)
        store.set("verdict", gone)
        if missing:
            tell({"kind": "absent", "ranks": missing, "names": [order["names"][number] for number in missing]})
            time.sleep(10 * PAUSE)  # the store ends with us: the others read it first
    if gone:
        raise Absence(f"did not come within {order['wait']:.0f} s: {gone}")
    return store


def absent(store: Any, world: int, until: float) -> list[int]:
    """The ranks that have not come by then."""
    missing = list(range(world))
    while True:
        missing = [rank for rank in missing if not store.check([f"here {rank}"])]
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(PAUSE)


def pattern(torch: Any, numbers: int, device: Any) -> Any:
    """fp32 that tell their places apart."""
    return (torch.arange(numbers) % PERIOD).float().to(device)


def operations(torch: Any, rank: int, world: int) -> dict[str, tuple[Callable[..., Any], int, int]]:
    """Name → (what is called, what this rank adds to the pattern, what must come out beside ``world`` patterns)."""
    return {
        "all_reduce": (lambda data: torch.distributed.all_reduce(data), rank, world * (world - 1) // 2),
        "broadcast": (lambda data: torch.distributed.broadcast(data, 0), 3 - 2 * rank, 3),
    }


def measured(torch: Any, order: Order, about: tuple[int, int], device: Any, name: str) -> Row:
    """One operation at one size, some times: the median of the seconds, and whether all of it was exact each time."""
    rank, size = about
    world, settle = len(order["names"]), settled(torch, device.type)
    call, adds, wanted = operations(torch, rank, world)[name]
    base = pattern(torch, max(1, size // 4), device)
    expected = base * (world if name == "all_reduce" else 1) + wanted
    spent, exact = [], True
    for _ in range(order["repeats"] + 1):  # the first one warms up
        data = base + adds
        torch.distributed.barrier()
        settle()
        began = time.perf_counter()
        call(data)
        settle()
        spent.append(time.perf_counter() - began)
        exact = exact and bool(torch.equal(data, expected))
    seconds = sorted(spent[1:] or spent)[len(spent[1:]) // 2]
    row = {"kind": "collective", "operation": name, "bytes": size, "exact": exact, "seconds": round(seconds, 6)}
    return dict(row, gbs=round(size / seconds / 1e9, 4))


def be_rank(order: Order, rank: int, chip: int, tell: Tell) -> None:
    """One rank. What is found is told row by row; what it does at the moment too. Raises what the library raises."""
    tell({"kind": "doing", "doing": "import torch"})
    torch: Any = importlib.import_module("torch")
    distributed, kind = torch.distributed, order["device"]
    try:
        device = torch.device(kind) if kind == "cpu" else torch.device(kind, chip)
        if kind != "cpu":
            getattr(torch, kind).set_device(device)
        tell({"kind": "doing", "doing": "meet the other ranks"})
        store = meet(distributed, order, rank, tell)
        tell({"kind": "doing", "doing": f"start {order['backend']}"})
        limit = timedelta(seconds=order["deadline"])
        world = len(order["names"])
        distributed.init_process_group(
            order["backend"], store=distributed.PrefixStore("group", store), rank=rank, world_size=world, timeout=limit
        )
        for size in order["sizes"]:
            for name in ("all_reduce", "broadcast"):
                tell({"kind": "doing", "doing": f"{name} of {size} bytes"})
                tell(measured(torch, order, (rank, size), device, name))
        tell({"kind": "doing", "doing": "end"})
        distributed.barrier()
    except Exception as error:
        tell({"kind": "reason", "last": last_line(error)})
        raise


class Ranks(Listener):
    """Says the rows of this host's ranks."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._doing: dict[str, str] = {}
        self._why: dict[str, str] = {}

    def row(self, task: Task, row: Row) -> None:
        if row["kind"] == "doing":
            self._doing[task.name] = row["doing"]
        elif row["kind"] == "reason":
            self._why[task.name] = row["last"]
        else:
            say(**dict(row, rank=int(task.name)))

    def ended(self, task: Task, how: str, last: str) -> None:
        doing, name = self._doing.get(task.name, ""), self._order["names"][int(task.name)]
        last = self._why.get(task.name, last) if how == "failed" else last
        say("rank", rank=int(task.name), name=name, backend=self._order["backend"], ended=how, doing=doing, last=last)


def task_of(order: Order, rank: int, chip: int) -> Task:
    """One rank's task: the ranks meet, then the library has its deadline."""
    seconds = order["deadline"] + 2 * order["wait"]
    return Task(str(rank), lambda tell: be_rank(order, rank, chip, tell), seconds)


def main(text: str) -> int:
    """All ranks of this host at once; the exit code. Raises ValueError for ranks that have no name."""
    order = order_of(COLLECTIVES, text)
    ranks = list(order["ranks"])
    if not ranks or not set(ranks) <= set(range(len(order["names"]))):
        raise ValueError("an order with ranks that have no name")
    began = time.monotonic()
    run_all([task_of(order, rank, chip) for chip, rank in enumerate(ranks)], len(ranks), Ranks(order))
    say("done", seconds=round(time.monotonic() - began, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "{}"))
