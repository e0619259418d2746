"""What holds for all tests: hypothesis' settings, a Ctrl-C that reaches what the tests start, a lab for each worker."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# The same examples each time, and no deadline on a machine that is shared.
settings.register_profile("everyday", deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
settings.load_profile("everyday")

# A shell that starts us in the background has SIGINT ignored, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each worker of a parallel run has a lab of its own beside the first one's: another name and the networks after it.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
if WORKER != "gw0":
    first, second, third = os.environ.get("R1DEPLOY_LAB_NETWORK", "172.31.250").split(".")
    os.environ["R1DEPLOY_LAB_NETWORK"] = f"{first}.{second}.{(int(third) + int(WORKER[2:])) % 256}"
    os.environ["R1DEPLOY_LAB_NAME"] = f"{os.environ.get('R1DEPLOY_LAB_NAME', 'r1lab')}-{WORKER}"

# In this order a parallel run hands out the files on the lab: the long ones first, and what needs no lab in the end.
# The real engine's wheels are downloaded while the first lab is made.
ORDER = ("flow", "real_engine", "flow_faults", "releases", "locks", "cuts", "lab_itself")


def place(item: pytest.Item) -> int:
    """Where a test stands."""
    file = item.nodeid.partition("::")[0]
    if not file.startswith("tests/lab/"):
        return len(ORDER) + 1
    name = file.removeprefix("tests/lab/test_").removesuffix(".py")
    return ORDER.index(name) if name in ORDER else len(ORDER)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--shard K/N``: one of N parts of about the same size, together all that is selected."""
    parser.addoption("--shard", metavar="K/N", help="run the K-th of N parts, counted from 0")


def shard_of(names: list[str], number: int, of: int) -> set[str]:
    """The tests of one part. In: node ids in their order.

    A piece of a file stays together, in its order; a file that is larger than half a part is taken apart.
    """
    files: dict[str, list[str]] = {}
    for name in names:
        files.setdefault(name.partition("::")[0], []).append(name)
    most = max(1, -(-len(names) // (2 * of)))
    pieces = [rows[at : at + most] for rows in files.values() for at in range(0, len(rows), most)]
    parts: list[list[str]] = [[] for _ in range(of)]
    for piece in sorted(pieces, key=len, reverse=True):
        min(parts, key=len).extend(piece)
    return set(parts[number])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by place; the order within a file stays. With ``--shard`` only one part is left."""
    items.sort(key=place)
    if config.getoption("--shard"):
        number, of = map(int, config.getoption("--shard").split("/"))
        mine = shard_of([item.nodeid for item in items], number, of)
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in mine])
        items[:] = [item for item in items if item.nodeid in mine]


class FileByFile(LoadScopeScheduling):
    """A file of tests on the lab goes to one worker: its tests build on each other. The rest goes anywhere."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.startswith("tests/lab/") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileByFile:
    """xdist's own ``loadfile`` would also keep the files without a lab together: some take a minute."""
    config.option.loadscopereorder = False  # our order: xdist's puts the files with many tests first
    return FileByFile(config, log)


def pytest_sessionfinish() -> None:
    """A worker's own lab goes with it; the first one's is ``make test``'s to take down."""
    if WORKER != "gw0" and not os.environ.get("KEEP"):
        from r1deploy.lab import Lab

        Lab().down(lambda _: None)
