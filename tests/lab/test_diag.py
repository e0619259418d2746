"""``diag`` with PyTorch in the containers: chips that compute wrong, kernels that fail, ranks that do not meet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import HOSTS, Cluster
from tests.lab.proving import CHIPS, assert_let_go, at_work, diag, on_host, said_by_status, well, with_torch
from tests.lab.running import Running, assert_nothing_left, refused

pytestmark = pytest.mark.lab
# Those that no function of FlagGems' stand-in serves, or whose function has no kernel that is compiled for its sizes.
SPARED = {"arange", "cast", "cat", "contiguous", "copy_", "full", "nonzero", "zeros"}
ENV = "/var/lib/r1deploy/releases/*/config/*/env.sh"
GLOO = "GLOO_SOCKET_IFNAME"


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two hosts with PyTorch in their containers, of two chips each; another configuration than the other tests'."""
    try:
        yield with_torch(cluster, tmp_path_factory.mktemp("diag"))
    finally:
        cluster.wipe()


@pytest.fixture
def proving(site: Cluster) -> Iterator[Cluster]:
    """The same, all of it right again after each test."""
    yield site
    well(site)


def errors(part: dict[str, Any]) -> list[tuple[str, int | None, str]]:
    """What is wrong with chips: host, chip, what."""
    return [(row["host"], row["index"], row["what"]) for row in part["findings"] if row["level"] == "error"]


def test_chips_that_are_right(proving: Cluster) -> None:
    found = diag(proving, "chips")
    part = found["parts"]["chips"]
    assert (found["ok"], found["error"], errors(part)) == (True, None, [])
    rows = part["chips"]
    assert [(row["host"], row["index"]) for row in rows] == [(host, n) for host in HOSTS for n in range(CHIPS)]
    for kind in ("bf16", "fp32"):
        assert len({each for row in rows for each in row["sums"][kind]}) == 1, "equal chips, equal bits"
    kept = json.loads(Path(part["file"]).read_text())
    assert (kept["part"], kept["release"], kept["ok"]) == ("chips", found["release"], True)
    assert kept["result"]["chips"] == rows
    assert said_by_status(proving)["chips"].startswith("verified on 2 hosts, 4 chips, ")
    assert_nothing_left(proving)


def test_a_chip_that_miscomputes_is_named(proving: Cluster) -> None:
    """One bit of a number is wrong: in each of its products, which the others show; then in some, which it shows."""
    proving.lab.set_torch("node2", CHIPS, wrong=[1])
    found = diag(proving, "chips", code=6)
    assert (found["ok"], found["error"]["code"]) == (False, "DIAG_CHIP")
    differs = "its product in {} differs from that of 3 equal chips"
    assert errors(found["parts"]["chips"]) == [("node2", 1, differs.format(kind)) for kind in ("bf16", "fp32")]
    assert said_by_status(proving)["chips"].startswith("found something wrong")
    kept = json.loads(Path(found["parts"]["chips"]["file"]).read_text())
    assert kept["ok"] is False and kept["findings"][0].startswith("node2, chip 1: its product in bf16")
    proving.lab.set_torch("node2", CHIPS, wrong=[0], once_in=2)
    found = diag(proving, "chips", code=6)
    unsteady = "one product in {} gave two results"
    assert errors(found["parts"]["chips"]) == [("node2", 0, unsteady.format(kind)) for kind in ("bf16", "fp32")]
    well(proving)
    diag(proving, "chips")
    assert said_by_status(proving)["chips"].startswith("verified")


def test_kernels_that_are_right(proving: Cluster) -> None:
    found = diag(proving, "kernels")
    hosts = found["parts"]["kernels"]["hosts"]
    assert found["ok"] and list(hosts) == list(HOSTS)
    for report in hosts.values():
        assert {row["verdict"] for row in report["table"]} == {"right"} and len(report["table"]) > 40
        served = {row["operator"] for row in report["table"] if row["from_flaggems"]}
        assert {"mm", "addmm.out", "embedding", "masked_fill_", "cumsum"} <= served and "cast" not in served
        assert [(row["dtype"], row["right"], row["greedy_agree"]) for row in report["passes"]] == [
            ("bf16", True, 1.0), ("fp32", True, 1.0),
        ]  # fmt: skip
        assert (report["findings"], report["switch_off"], report["rounds"]) == ([], [], 0)
        versions = report["versions"]
        assert (versions["flag_gems"], versions["triton"], versions["torch"]) == ("2.1", "3.6.0", "2.13.0+cpu")
    assert said_by_status(proving)["kernels"].startswith("verified on 2 hosts")


def broken(cluster: Cluster, fault: str, *argv: str) -> dict[str, Any]:
    """What ``diag kernels`` finds on the second host alone, whose FlagGems has a fault."""
    cluster.lab.set_flaggems("node2", fault)
    found = diag(cluster, "kernels", "--host", "node2", *argv, code=6)
    assert found["error"]["code"] == "DIAG_KERNEL"
    return dict(found["parts"]["kernels"]["hosts"]["node2"])


MISFIT = "FlagGems 2.1 does not fit Triton 3.6.0"
# kernels.md: what three versions of FlagGems did beside a Triton that they do not fit, each after a good import.
SEEN = [
    pytest.param("arg_defaults", "'JITFunction' object has no attribute 'arg_defaults'", MISFIT, id="arg_defaults"),
    pytest.param("arguments", "function takes exactly 25 arguments (21 given)", MISFIT, id="arguments"),
    pytest.param("assert", "CUDA error: device-side assert triggered", "", id="assert"),
]


@pytest.mark.long
@pytest.mark.parametrize(("fault", "last", "hint"), SEEN)
def test_a_flaggems_that_does_not_fit_is_one_finding(proving: Cluster, fault: str, last: str, hint: str) -> None:
    report = broken(proving, fault)
    first = report["findings"][0]
    assert (first["verdict"], first["last"], first["hint"]) == ("failed", last, hint)
    failed = {row["operator"] for row in report["table"] if row["verdict"] == "failed"}
    assert set(first["operators"]) == failed
    assert {row["verdict_without"] for row in report["table"]} == {"right"}
    if fault == "arguments":
        assert failed == {"mm", "mm.out", "linear"} and report["switch_off"] == ["mm", "mm_out"]
    elif fault == "arg_defaults":
        assert failed == {row["operator"] for row in report["table"]} - SPARED
    else:
        assert {"mm", "addmm", "softmax", "index_add"} <= failed
    others = report["findings"][1:]
    assert [row["operators"] for row in others] == [[]], "what fails for one reason is one finding"
    assert others[0]["what"] == f"the whole pass with FlagGems in bf16 and fp32: {last}"
    assert report["rounds"] >= 1 and report["left"] == [], "without what is named, all is right"


@pytest.mark.long
def test_an_inexact_operator_is_switched_off_with_its_variants(proving: Cluster) -> None:
    report = broken(proving, "wrong")
    named = {(row["operators"][0], row["last"]) for row in report["findings"]}
    assert named == {
        (name, f"{name} is wrong in {kind}") for name in ("addmm", "addmm.out") for kind in ("bf16", "fp32")
    }
    assert all("the error is 0.03 at" in row["hint"] for row in report["findings"])
    assert report["switch_off"] == ["addmm", "addmm_out"]
    assert report["switches"]["flag_gems.enable"] == 'unused=["addmm", "addmm_out"]'
    assert (report["rounds"], report["helps"], report["left"]) == (1, True, [])
    assert all(row["right"] for row in report["passes"]), "no bias in the pass: it is the operators that show it"


@pytest.mark.long
def test_an_operator_that_hangs_its_compiler_is_ended_and_named(proving: Cluster) -> None:
    report = broken(proving, "hang", "--set", "diag.operator_seconds=40")
    (found,) = report["findings"]
    assert (found["verdict"], found["operators"], found["last"]) == ("hung", ["cumsum"], "no end within 40 s")
    assert (report["switch_off"], report["left"]) == (["cumsum"], [])
    assert_nothing_left(proving)


@pytest.mark.long
def test_install_refuses_a_flaggems_that_computes_nothing(proving: Cluster, tmp_path: Path) -> None:
    """It imports well: what the first operators of diag give is the proof, and the release is whole after it only."""
    proving.sh("node2", "docker exec $(docker ps -q) pip uninstall -qy flag_gems")
    proving.lab.set_flaggems("node2", "arguments")
    refused(proving.r1("bootstrap", "--yes"), 6, "KERNELS_BROKEN", "node2", "function takes exactly 25 arguments")
    assert {(row["step"], row["host"]) for row in proving.plan()} == {("install", "node2")}
    proving.lab.set_flaggems("node2", None)
    done = proving.r1("bootstrap", "--yes", env={"XDG_STATE_HOME": str(tmp_path)})
    assert done.code == 0, done.text
    (log,) = tmp_path.rglob("*.jsonl")
    assert "8 operators are right, 8 by FlagGems" in log.read_text(), "the log says how it was verified"
    assert proving.plan() == []
    assert_let_go(proving)


@pytest.mark.long
def test_ctrl_c_leaves_nothing(proving: Cluster) -> None:
    """While an operator hangs in its compiler: a process that is no child of ours."""
    proving.lab.set_flaggems("node2", "hang")
    with Running(proving, "diag", "kernels", "--host", "node2", "--set", "diag.operator_seconds=120") as run:
        run.until("node2: with FlagGems", 240)
        end = time.monotonic() + 240
        while not at_work(proving, "sleep 3600"):
            assert time.monotonic() < end and run.process.poll() is None, run.text
            time.sleep(0.5)
        run.interrupt()
        assert run.end(30) == 130, run.text
        assert "what ran in the containers ends within seconds" in run.text and "Traceback" not in run.text
        assert_let_go(proving)
        assert_nothing_left(proving, run.text)
        run.assert_whole()


@pytest.mark.long
def test_serve_asks_for_it_and_an_engine_keeps_it_out(proving: Cluster) -> None:
    """service.require_diag: refused, then proven in one run of all parts, then served; then diag is refused."""
    asked = ["--set", "service.require_diag=true"]
    for host in HOSTS:
        proving.sh(host, "rm -f /var/lib/r1deploy/diag.json")
    assert "diag      never (r1deploy diag)" in proving.r1("status").out
    refused(proving.r1("serve", "--yes", *asked), 5, "DIAG_MISSING", "chips", "r1deploy diag")
    found = diag(proving)
    assert found["ok"] and list(found["parts"]) == ["chips", "kernels", "network"]
    assert {name: said.partition(",")[0] for name, said in said_by_status(proving).items()} == dict.fromkeys(
        ("chips", "kernels", "network"), "verified on 2 hosts"
    )
    try:
        done = proving.r1("serve", "--yes", *asked)
        assert done.code == 0, done.err
        before = standing(proving)
        refused(proving.r1("diag"), 5, "DIAG_SERVING", "r1deploy stop")
        document = json.loads(proving.r1("diag", "chips", "--json").out)
        assert document["error"]["code"] == "DIAG_SERVING"
        assert standing(proving) == before, "nothing was begun"
    finally:
        assert proving.r1("stop").code == 0


def standing(cluster: Cluster) -> dict[str, str]:
    """What diag would change on hosts that serve: its summary, the history, a container's start; logs grow anyhow."""
    seen = "cat /var/lib/r1deploy/diag.json /var/lib/r1deploy/history.jsonl; docker inspect -f '{{.State.StartedAt}}' "
    return {host: cluster.sh(host, seen + "$(docker ps -q)") for host in HOSTS}


def ranks(found: dict[str, Any]) -> dict[str, Any]:
    (gloo,) = found["parts"]["network"]["collectives"]
    assert gloo["library"] == "gloo", "no chip's library: a CPU plays the chip"
    return dict(gloo)


def test_the_hosts_sum_over_gloo(proving: Cluster) -> None:
    found = diag(proving, "network")
    gloo = ranks(found)
    assert found["ok"] and gloo["findings"] == []
    assert [(row["operation"], row["bytes"]) for row in gloo["lines"]] == [
        (name, size) for size in (1 << 10, 1 << 20, 1 << 26) for name in ("all_reduce", "broadcast")
    ]
    assert all(row["exact"] and row["ranks"] == 2 and row["gbs"] > 0 for row in gloo["lines"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("nic", "word"),
    [("r1nosuch0", "Unable to find address for: r1nosuch0"), ("lo", "no end within 40 s")],
    ids=["absent", "lo"],
)
def test_a_wrong_interface_of_gloo_names_its_host(proving: Cluster, nic: str, word: str) -> None:
    """In the environment of one host: an interface that is not there, and one that leads to itself only."""
    cause = f"for f in {ENV}; do cp -p $f $f.own; echo export {GLOO}={nic} >> $f; done"
    undo = f"for f in {ENV}; do [ ! -e $f.own ] || mv $f.own $f; done"
    with on_host(proving, "node2", cause, undo):
        found = diag(proving, "network", "--set", "diag.collective_seconds=40", code=6)
    rows = ranks(found)["findings"]
    assert found["error"]["code"] == "DIAG_NETWORK"
    assert {row["code"] for row in rows} <= {"RANK_FAILED", "RANKS_MISSING"}
    assert any("node2" in row["where"] and word in row["what"] for row in rows), rows
    assert [row for row in found["parts"]["network"]["findings"] if row["level"] == "error"] == [], (
        "the wires are right"
    )
