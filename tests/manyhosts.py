"""Clusters of many hosts, made of the planner's base case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.plans.test_plans import CASES


def names(count: int) -> list[str]:
    """node01, node02, …"""
    return [f"node{number:02}" for number in range(1, count + 1)]


def case(count: int, observed: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A case of ``tests/plans`` with that many hosts, converged but for what ``observed`` says."""
    hosts = {
        name: {"address": f"10.0.0.{at}", "slots": 2, "is_head": at == 1} for at, name in enumerate(names(count), 1)
    }
    return {"hosts": hosts, "observed": observed or {}, **more}


def empty(hosts: Iterable[str]) -> dict[str, Any]:
    """``observed`` of hosts that have nothing yet."""
    return dict.fromkeys(hosts, CASES["nothing-is-there"]["observed"]["all"])
