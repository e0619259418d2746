"""What people and programs see of ``diag``: the network's tables, the live rows, JSON after its schema."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from r1deploy.assurance import rankjudge, wirejudge
from r1deploy.assurance.chippart import ChipResult, judged
from r1deploy.assurance.diagrows import Said, rows_in
from r1deploy.assurance.kernelreport import Comparison, KernelReport, KernelRuns
from r1deploy.assurance.network import CollectiveRun, NetworkResult
from r1deploy.assurance.partresults import chips_kept, kernels_kept, network_kept
from r1deploy.assurance.wirerows import wire_rows_in
from r1deploy.onhost.saying import MARK
from r1deploy.ui import diaglive, lines, live
from r1deploy.ui.diaglines import diag_lines
from r1deploy.verbs.diag import Diagnosis, Proof
from tests.diagfakes import DATA

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "diag.json").read_text(encoding="utf-8"))


def wires(name: str) -> dict[str, list[Any]]:
    """By host, what two real hosts said of each other."""
    said: dict[str, list[str]] = {}
    for line in (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        host, _, text = line.partition(" ")
        said.setdefault(host, []).append(text)
    return {host: wire_rows_in(rows)[0] for host, rows in said.items()}


def collective(name: str) -> CollectiveRun:
    """A run of two ranks."""
    rows = {"node1": wire_rows_in((DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())[0]}
    found = rankjudge.judge_ranks(rows, ["node1", "node2", "node3"][: 3 if "absent" in name else 2])
    return CollectiveRun("gloo", rankjudge.collective_table(rows), found, rows)


def network(name: str, ranks: str) -> NetworkResult:
    rows = wires(name)
    found = wirejudge.judge(rows, wirejudge.Limits(floor_gbit=0.0))
    return NetworkResult(rows, wirejudge.table(rows), found, [collective(ranks)], ["one chip: no nccl"])


def said(*names: str) -> list[Said]:
    return [Said(tuple(rows_in((DATA / f"{name}.jsonl").read_text().splitlines())[0])) for name in names]


def whole(name: str = "wires_firewall", ranks: str = "collectives_absent") -> Diagnosis:
    """All three parts of a run, none of them right."""
    chips = {"node1": said("chips_h200_two")[0], "node2": Said((), "interrupted: the link is down", over=True)}
    results = ChipResult(chips, judged(chips, {"node1": 4, "node2": 2}))
    own = Comparison((), *said("pytorch", "pytorch_forward"))
    gems = Comparison((), *said("flaggems502", "flaggems502_forward"))
    off = Comparison(("mm",), *said("flaggems502_off", "flaggems502_off_forward"))
    kernels = {"node1": KernelReport(KernelRuns(own, gems, (off,))), "node2": KernelReport(KernelRuns(own, None))}
    wired = network(name, ranks)
    done = Diagnosis("0123456789ab", None)
    done.parts["chips"] = Proof(results, chips_kept(results), Path("/state/chips.json"))
    done.parts["kernels"] = Proof(kernels, kernels_kept(kernels, {"node1": 2}), Path("/state/kernels.json"))
    done.parts["network"] = Proof(wired, network_kept(wired, {"node1": 2}), Path("/state/network.json"))
    return done


def test_json_follows_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    checker = jsonschema.Draft202012Validator(SCHEMA)
    for done in (whole(), whole("wires_healthy", "collectives_gloo"), Diagnosis("a", "b")):
        checker.validate(json.loads(json.dumps(done.document())))
    unlike = whole().document() | {"schema": 2}
    assert [error.json_path for error in checker.iter_errors(unlike)] == ["$.schema"]


def test_the_first_part_with_a_finding_gives_the_code() -> None:
    done = whole()
    error = done.error()
    assert error and (error.code, error.exit_code) == ("DIAG_CHIP", 6)
    assert {row.partition(":")[0] for row in error.evidence} == {"chips", "kernels", "network"}
    assert error.fix and len(error.fix.splitlines()) == 3
    del done.parts["chips"], done.parts["kernels"]
    error = done.error()
    assert error and error.code == "DIAG_NETWORK"
    assert Diagnosis("a", "b").error() is None


def test_the_network_is_shown_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = diag_lines(whole())
    text = " ".join("\n".join(rows).split())
    assert "FAIL node1: PyTorch sees 2 chips, the inventory says 4" in text
    assert "FAIL node2: interrupted: the link is down" in text
    assert "node1 → node2" in text and "ports" in text and "one chip: no nccl" in text
    assert "did not come to the other ranks" in text
    assert "warn node2: the image has no FlagGems: PyTorch's own kernels only" in text
    assert all(len(row) <= 80 for row in rows if "unused=" not in row), rows
    assert [row for row in rows if row.startswith("  file ")] == [
        f"  file /state/{part}.json" for part in ("chips", "kernels", "network")
    ]
    healthy = "\n".join(diag_lines(whole("wires_healthy", "collectives_gloo")))
    assert "all_reduce" in healthy and "256.0 MiB" in healthy and "exact" in healthy


def test_a_host_cannot_draw_on_the_terminal() -> None:
    row = json.loads((DATA / "chips_h100.jsonl").read_text().splitlines()[0][len(MARK) :])
    (found,), _ = rows_in([MARK + json.dumps({**row, "name": "\x1b[2J", "last": "", "ended": "done"})])
    result = ChipResult({"node1": Said((found,))}, [])
    done = Diagnosis("a", None, {"chips": Proof(result, chips_kept(result), Path("/f"))})
    assert "\x1b" not in "".join(diag_lines(done)) and "\\x1b[2J" in "".join(diag_lines(done))


def test_without_a_terminal_a_line_where_a_host_begins_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(diaglive, "time", SimpleNamespace(monotonic=lambda: now[0]))
    told = diaglive.Told(lines.Progress())
    for at, words in enumerate(("own", "own: 1 of 9", "own: 2 of 9", "gems: 1 of 9")):
        now[0] = 100.0 + at
        told("kernels", "node1", words)
        told("kernels", "node2", words)
    now[0] = 200.0
    told("kernels", "node1", "gems: 2 of 9")
    said = [line.split("s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        *(f"kernels   {host}: own" for host in ("node1", "node2")),
        *(f"kernels   {host}: gems: 1 of 9" for host in ("node1", "node2")),
        "kernels   node1: gems: 2 of 9",
    ]


def test_on_a_terminal_a_row_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(live.Table, "_draw", lambda self: drawn.append(threading.get_ident()))
    with live.Table() as table:
        told = diaglive.Told(table)
        hosts = [f"node{number}" for number in range(8)]
        threads = [threading.Thread(target=told, args=("chips", host, "memory: 1 of 2")) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(table.rows) == hosts and len(drawn) == 8
    assert {(row.step, row.text) for row in table.rows.values()} == {("chips", "memory: 1 of 2")}
