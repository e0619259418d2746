"""Warnings on who can reach the service (field.md 2.9, 2.10): said where it is so, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from r1deploy.cluster.host import Host
from r1deploy.planning.desired import Desired
from r1deploy.planning.exposure import exposure
from r1deploy.planning.findings import Check, passed
from r1deploy.planning.release import Inputs, release_of
from r1deploy.settings.load import from_profile
from r1deploy.ui import lines

BASE = from_profile("iluvatar-bi-v150")
HOSTS = (Host("node1", "10.0.0.1", 16), Host("node2", "10.0.0.2", 16))


def warnings(hosts: tuple[Host, ...] = HOSTS, **service: Any) -> list[Check]:
    """What is warned of. In: settings of the service; ``listen``, the engine's own host."""
    listen = service.pop("listen", None)
    engine = BASE.engine.model_copy(update={"extra": {"host": listen} if listen else {}})
    settings = BASE.model_copy(update={"service": BASE.service.model_copy(update=service), "engine": engine})
    release = release_of(settings, Inputs(None, "a" * 40, "b" * 40, {}))
    return list(exposure(Desired(settings, hosts, None, "", "", release, "", {}, {}), {}))


@pytest.mark.parametrize(
    ("service", "codes"),
    [
        ({}, ["API_OPEN", "RAY_OPEN", "TRUST_ROOT"]),
        ({"api_key_file": "/key"}, ["RAY_OPEN", "TRUST_ROOT"]),
        ({"mode": "ray+vllm"}, ["API_OPEN", "RAY_OPEN"]),
        ({"mode": "vllm"}, ["API_OPEN"]),
        ({"mode": "vllm", "listen": "0.0.0.0"}, ["API_OPEN"]),
        ({"mode": "vllm", "listen": "::"}, ["API_OPEN"]),
        ({"mode": "vllm", "listen": "10.0.0.1"}, []),
        ({"mode": "vllm", "api_key_file": "/key"}, []),
    ],
)
def test_what_is_warned_of(service: dict[str, Any], codes: list[str]) -> None:
    found = warnings(**service)
    assert [row.code for row in found] == codes
    assert all(row.ok and row.warning and row.fix and not row.blocks for row in found)


def test_one_host_trusts_nobody() -> None:
    assert [row.code for row in warnings(HOSTS[:1])] == ["API_OPEN", "RAY_OPEN"]


def test_a_warning_is_a_row_of_its_own_kind() -> None:
    found = [*warnings(), passed("clock", "0 s apart")]
    assert [row[2:6] for row in lines.check_lines(found, False) if row[2:6].strip()] == ["warn"] * 3
    assert lines.verdict(found) == "1 checks, 0 failed, 3 warnings."
    assert [(row["ok"], row["warning"]) for row in lines.check_rows(found)] == [(True, True)] * 3 + [(True, False)]
