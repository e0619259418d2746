"""The ranks' meeting, the patterns and the rows, as far as they need no torch."""

from __future__ import annotations

import json
import types
from datetime import timedelta
from typing import Any

import pytest

from r1deploy.assurance.wirerows import wire_row_of
from r1deploy.onhost import collectives
from r1deploy.onhost.children import Task
from r1deploy.onhost.collectives import Absence, Ranks, last_line, meet, operations
from r1deploy.onhost.orders import COLLECTIVES, order_of
from r1deploy.onhost.saying import MARK

NAMES = ("node1", "node2", "node3")
ORDER = order_of(COLLECTIVES, json.dumps({"names": NAMES, "wait": 0.1, "address": "127.0.0.1"}))


class Store:
    """The keys of a run, shared by all who say that they connect."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}

    def set(self, key: str, value: str) -> None:
        self.keys[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.keys[key]

    def check(self, keys: list[str]) -> bool:
        return set(keys) <= set(self.keys)

    def set_timeout(self, wait: timedelta) -> None:
        assert wait.total_seconds() == pytest.approx(0.2)


def distributed(store: Store) -> Any:
    return types.SimpleNamespace(TCPStore=lambda *_, **__: store)


def test_rank_0_names_those_that_did_not_come_and_the_others_hear_of_it() -> None:
    store, told = Store(), list[Any]()
    store.set("here 1", "1")
    with pytest.raises(Absence, match=r"did not come within 0 s: node3"):
        meet(distributed(store), ORDER, 0, told.append)
    assert told == [{"kind": "absent", "ranks": [2], "names": ["node3"]}]
    with pytest.raises(Absence, match="node3"):
        meet(distributed(store), ORDER, 1, told.append)


def test_all_come() -> None:
    store, told = Store(), list[Any]()
    store.set("here 1", "1")
    store.set("here 2", "1")
    assert meet(distributed(store), ORDER, 0, told.append) is store
    assert meet(distributed(store), ORDER, 2, told.append) is store
    assert told == []


def test_the_line_that_the_library_says_itself() -> None:
    nccl = RuntimeError(
        "NCCL error in: ProcessGroupNCCL.cpp:93, invalid usage\nncclInvalidUsage: This usually reflects invalid usage."
        "\nLast error:\nBootstrap : no socket interface found"
    )
    assert last_line(nccl) == "RuntimeError: Bootstrap : no socket interface found"
    assert last_line(RuntimeError("x\nLast error: no room\nmore")) == "RuntimeError: no room"
    gloo = RuntimeError("ifa != nullptr. Unable to find address for: ens9f9\nException raised from")
    assert last_line(gloo) == "RuntimeError: ifa != nullptr. Unable to find address for: ens9f9"
    assert last_line(KeyError()) == "KeyError" and last_line(RuntimeError("Last error:")) == "RuntimeError: Last error"


def test_what_must_come_out() -> None:
    """Sums of what the ranks put in: each adds its own number to the same pattern."""
    for world in (2, 5):
        ranks = [operations(None, rank, world) for rank in range(world)]
        assert sum(7 + rank["all_reduce"][1] for rank in ranks) == 7 * world + ranks[0]["all_reduce"][2]
        assert ranks[0]["broadcast"][1] == ranks[1]["broadcast"][2] == 3
        assert len({rank["broadcast"][1] for rank in ranks}) == world
    assert 5000 * collectives.PERIOD + 5000 * 4999 // 2 < 2**24


def test_rows_of_a_rank(capsys: pytest.CaptureFixture[str]) -> None:
    heard = Ranks(ORDER)
    two, three = (Task(str(rank), lambda tell: None, 5) for rank in (1, 2))
    heard.row(two, {"kind": "doing", "doing": "start gloo"})
    heard.row(two, {"kind": "reason", "last": "RuntimeError: Bootstrap : no socket interface found"})
    heard.ended(two, "failed", "RuntimeError: NCCL error in: x")
    heard.row(three, {"kind": "doing", "doing": "all_reduce of 1024 bytes"})
    heard.ended(three, "hung", "no end within 60 s")
    rows = [json.loads(line[len(MARK) :]) for line in capsys.readouterr().out.splitlines()]
    assert all(wire_row_of(row) for row in rows)
    assert [(row["name"], row["ended"], row["doing"], row["last"]) for row in rows] == [
        ("node2", "failed", "start gloo", "RuntimeError: Bootstrap : no socket interface found"),
        ("node3", "hung", "all_reduce of 1024 bytes", "no end within 60 s"),
    ]


def test_a_container_without_torch_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def no_torch(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(collectives.importlib, "import_module", no_torch)
    assert collectives.main(json.dumps({"names": ["node1"], "ranks": [0]})) == 0
    rank, done = [json.loads(line[len(MARK) :]) for line in capsys.readouterr().out.splitlines()]
    assert (rank["ended"], rank["last"]) == ("failed", "ModuleNotFoundError: No module named 'torch'")
    assert (rank["doing"], done["kind"]) == ("import torch", "done")


def test_ranks_have_names() -> None:
    with pytest.raises(ValueError, match="no name"):
        collectives.main('{"names": ["node1"], "ranks": [1]}')
