"""What plan says of tp, pp, addresses and interfaces, and of where each comes from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.cluster.host import Host
from r1deploy.observe.choices import Choice, choices
from r1deploy.observe.context import Context
from r1deploy.settings.load import load
from r1deploy.ui.choicelines import choice_lines

HOSTS = (Host("node1", "10.0.0.1", 16, is_head=True), Host("node2", "10.0.0.2", 8), Host("node3", "node3", 16))
LOGIN = {"node1": {"r1_address": "10.0.0.1", "ansible_host": "a"}, "node2": {"ansible_host": "10.0.0.2", "slots": 8}}
NICS: dict[str, str | None] = {"node1": "eth0", "node2": "bond0.7", "node3": None}


def found(
    tmp_path: Path, text: str = "", flags: Any = None, environ: Any = None, silent: str = "", grouped: bool = True
) -> list[Choice]:
    (tmp_path / "r1deploy.yaml").write_text(text)
    context = Context(tmp_path, load(tmp_path, flags or {}, environ or {}), tmp_path)
    seen = {name: SimpleNamespace(net=SimpleNamespace(nic=nic)) for name, nic in NICS.items() if name != silent}
    view: Any = SimpleNamespace(
        desired=SimpleNamespace(hosts=HOSTS), probed=SimpleNamespace(observed=seen, login=LOGIN, grouped=grouped)
    )
    return choices(context, view)


def one(rows: list[Choice], name: str, host: str | None = None) -> tuple[str, str]:
    (row,) = [row for row in rows if (row.name, row.host) == (name, host)]
    return row.value, row.source


def test_each_kind_of_source(tmp_path: Path) -> None:
    text = "engine:\n  pipeline_parallel_size: 2\nenv:\n  GLOO_SOCKET_IFNAME: ib0\n"
    rows = found(tmp_path, text, {"slots": 4}, {"R1DEPLOY_SERVICE__MODE": "vllm"})
    assert one(rows, "service.mode") == ("vllm", "environment R1DEPLOY_SERVICE__MODE")
    assert one(rows, "engine.pipeline_parallel_size") == ("2", "file r1deploy.yaml:2")
    value, source = one(rows, "engine.tensor_parallel_size")
    assert value == "8" and source.startswith("profile ") and source.count("profile") == 1
    assert one(rows, "slots", "node1") == ("16", "flag command line")
    assert one(rows, "slots", "node2") == ("8", "inventory: slots")
    assert one(rows, "NCCL_SOCKET_IFNAME", "node2") == ("bond0.7", "NIC of 10.0.0.2")
    assert one(rows, "GLOO_SOCKET_IFNAME", "node2") == ("ib0", "file r1deploy.yaml:4")
    assert one(found(tmp_path), "service.mode") == ("flagscale", "default built in")


@pytest.mark.parametrize(
    ("host", "source"), [("node1", "r1_address"), ("node2", "ansible_host"), ("node3", "the host's name")]
)
def test_where_the_address_comes_from(tmp_path: Path, host: str, source: str) -> None:
    assert one(found(tmp_path), "address", host)[1] == f"inventory: {source}"


def test_an_interface_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert one(found(tmp_path), "NCCL_SOCKET_IFNAME", "node3") == ("none", "NIC of node3")


def test_a_silent_host_has_no_choices(tmp_path: Path) -> None:
    assert {row.host for row in found(tmp_path, silent="node2")} == {None, "node1", "node3"}


def test_lines_are_short_and_one_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = choice_lines(found(tmp_path))
    assert max(map(len, rows)) <= 80
    text = "\n".join(rows)
    assert "NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME eth0 (NIC of 10.0.0.1)" in " ".join(text.split())
    assert [row.split()[0] for row in rows if row.startswith("  node")] == ["node1", "node2", "node3"]
    monkeypatch.setenv("COLUMNS", "1000")
    assert len(choice_lines(found(tmp_path))) <= 16


def test_an_inventory_without_our_group_says_which_hosts_are_taken(tmp_path: Path) -> None:
    """field.md 3.13."""
    value, source = one(found(tmp_path, grouped=False), "hosts")
    assert value == "node1, node2, node3" and "no group [cluster]" in source
    assert not [row for row in found(tmp_path) if row.name == "hosts"]
