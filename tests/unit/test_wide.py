"""Sixty-four hosts on a screen: every output fits, the odd host stands out, nothing that failed is out of sight."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from r1deploy.ansible.events import Event
from r1deploy.ansible.failures import Failure
from r1deploy.observe.blocking import unreachable
from r1deploy.observe.choices import Choice
from r1deploy.planning.findings import Check, failed, passed
from r1deploy.planning.steps import STEPS
from r1deploy.ui import lines, live, statuslines
from r1deploy.ui.planlines import cause_lines, plan_lines
from r1deploy.ui.plans import planned_lines
from tests.manyhosts import case, empty, names
from tests.plans.test_plans import run

SCREENS = [(24, 80), (40, 120)]
ODD = "node07"


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def planned(wanted: dict[str, Any], verbose: bool = False) -> list[str]:
    rows = plan_lines(run(wanted)[0], verbose)
    assert max(map(len, rows)) <= 80, rows
    return rows


def test_of_two_hosts_each_change_has_a_row() -> None:
    found, _ = run(case(2, empty(names(2))))
    rows = planned(case(2, empty(names(2))))
    assert rows[-1] == f"{len(found.changes)} changes on 2 hosts."
    assert sum(row.startswith("  ") and row[2] != " " for row in rows) == len(found.changes)


@pytest.mark.parametrize("count", [32, 64])
def test_a_plan_of_many_hosts_from_nothing(count: int) -> None:
    rows = planned(case(count, empty(names(count))))
    assert len(rows) <= 40
    whole = " ".join(" ".join(rows).split())
    assert f"image node[01-{count}] baai:v5: absent →" in whole
    assert f"vllm node[02-{count}] FlagScale and vLLM: absent → flagscale-" in whole
    assert f"on {count} hosts: node01: 27 changes; node[02-{count}]: 20 changes each." in whole


@pytest.mark.parametrize("count", [32, 64])
def test_the_whole_output_of_plan_is_one_page(count: int) -> None:
    """Choices, blockers and warnings with it: at most 60 lines."""
    found, desired = run(case(count, empty(names(count)), settings={"engine.pipeline_parallel_size": count}))
    choices = [Choice("hosts", None, ", ".join(names(count)), "inventory: all of it")]
    for host in desired.hosts:
        nic = Choice("NCCL_SOCKET_IFNAME", host.name, "eth0", f"NIC of {host.address}")
        choices += [Choice("address", host.name, host.address, "inventory: r1_address"), nic]
    whole: Any = SimpleNamespace(view=SimpleNamespace(plan=found), causes=(), locks=(), diffs=(), choices=choices)
    rows = planned_lines(whole, False)
    assert len(rows) <= 60 and max(map(len, rows)) <= 80
    assert f"  hosts node[01-{count}] (inventory: all of it)" in rows and "Warnings:" in rows
    found, _ = run(case(count))
    assert f"chips 2 × {count} = {2 * count}" in " ".join(row.detail for row in found.checks)


def test_all_of_a_plan_stands_in_its_verbose_form() -> None:
    wanted = case(32, {**empty(names(32)), ODD: {"image": None}})
    whole = " ".join(" ".join(planned(wanted, verbose=True)).split())
    found, _ = run(wanted)
    sentences = {f"{row.field}: {row.current} → {row.desired} ({row.reason})" for row in found.changes}
    sentences |= {f"= {row.reason}" for row in found.noops}
    assert [row for row in sentences if " ".join(row.split()) not in whole] == []


def test_half_of_the_hosts_are_new() -> None:
    rows = planned(case(64, empty(names(64)[32:])))
    assert len(rows) <= 30
    assert "; node[01-32]: none." in rows[-1] and "node[33-64]: 20 changes each" in rows[-1]


def test_the_odd_one_out_has_rows_of_its_own() -> None:
    rows = planned(case(32, {**empty(names(32)), ODD: {"image": None}}))
    assert len(rows) <= 52
    whole = " ".join(" ".join(rows).split())
    assert "node07: 7 changes." in whole and "install node07 flaggems: gems-digest →" in whole
    assert planned(case(32, {ODD: {"image": None}}))[-1] == "1 change on 1 host."


def test_hosts_that_are_all_different_do_not_fill_the_screen() -> None:
    observed = {name: {"state.bin": {f"old{at}.py": "0" * 12}, "image": None} for at, name in enumerate(names(32))}
    observed |= {name: {"state.leftovers": [f"/var/lib/r1deploy/tmp{at}"]} for at, name in enumerate(names(32))}
    rows = planned(case(32, observed))
    assert "28 hosts more, each with changes of its own (-v)" in "\n".join(rows)
    assert len(rows) < 15


# The live display.


def busy(count: int, broken: int = 0) -> live.Table:
    """Hosts at work on the fifth step, every second one done with its task; the last ones failed."""
    table = live.Table()
    for at, name in enumerate(names(count)):
        table.event(Event("start", "patch", "Unpatch", name))
        if at % 2:
            table.event(Event("ok", "patch", "Unpatch", name))
    for name in names(count)[count - broken :]:
        table.event(Event("failed", "patch", "Unpatch", name))
    return table


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.Table, "_draw", lambda self: None)


def screen(table: live.Table, height: int, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height, force_terminal=True, color_system=None).print(table.picture())
    return out.getvalue().splitlines()


@pytest.mark.parametrize("count", [32, 64])
@pytest.mark.parametrize(("height", "width"), SCREENS)
def test_the_live_display_always_fits(height: int, width: int, count: int) -> None:
    table = busy(count, broken=1)
    rows = screen(table, height, width)
    assert len(rows) < height and all(len(row) <= width for row in rows)
    if count >= height:
        assert rows[0].startswith(f"node{count}") and "failed: Unpatch" in rows[0], "what failed comes first"
        assert "ok" in rows[-2] and rows[-2].startswith("+")
    assert "failed: Unpatch" in "\n".join(rows)
    assert rows[-1].split("s  ")[1] == "step 5 of 9  1 failed"
    table.bar("loading weights", 3, 16)
    assert "loading weights ━" in screen(table, height, width)[-1] and "3/16" in screen(table, height, width)[-1]


@pytest.mark.parametrize(("height", "width"), SCREENS)
def test_every_host_is_counted_once(height: int, width: int) -> None:
    rows = screen(busy(64, broken=3), height, width)
    shown = [row for row in rows if row.startswith("node")]
    assert len(shown) + sum(map(int, re.findall(r"\+(\d+)", rows[-2]))) == 64
    assert [row.split()[0] for row in shown[:3]] == names(64)[-3:]


def test_more_failures_than_lines() -> None:
    rows = screen(busy(64, broken=64), 24, 80)
    assert len(rows) < 24 and rows[-2] == f"+{64 - len(rows) + 2} failed" and "64 failed" in rows[-1]


def test_a_small_screen_keeps_the_bar() -> None:
    table = busy(64, broken=1)
    table.bar("loading weights", 3, 16)
    rows = screen(table, 4, 80)
    assert len(rows) == 3 and "failed: Unpatch" in rows[0] and rows[2].endswith("3/16")


def test_hosts_that_fit_keep_their_order() -> None:
    assert [row.split()[0] for row in screen(busy(8, broken=2), 24, 80)[:-1]] == names(8)


def test_a_watch_says_how_much_it_leaves_out() -> None:
    rows = [f"row {number}" for number in range(50)]
    assert live.on_screen(rows, 50) == rows
    assert live.on_screen(rows, 20) == [*rows[:19], "… 31 lines more"]


# Findings.


def many(count: int, say: Callable[[int], str]) -> Iterator[Check]:
    for at, name in enumerate(names(count)):
        yield passed("clock", "0 s apart").at(name)
        yield failed("DISK_SPACE", "disk", say(at), f"ssh root@10.0.0.{at + 1} df").at(name)


def test_one_finding_of_many_hosts() -> None:
    rows = lines.check_lines(many(64, lambda at: "/ is full"), False)
    assert rows == [
        "  FAIL node[01-64]: disk: / is full",
        "       DISK_SPACE: ssh root@10.0.0.1 df (said of node01)",
    ]
    assert lines.verdict(list(many(64, lambda at: "/ is full"))) == "128 checks, 64 failed."


def test_figures_of_each_host_are_for_the_verbose_form() -> None:
    rows = lines.check_lines(many(64, lambda at: f"{at} GiB are free"), False)
    assert rows[0] == "  FAIL node[01-64]: disk: 0 GiB are free (said of node01)" and len(rows) == 2
    whole = "\n".join(lines.check_lines(many(64, lambda at: f"{at} GiB are free"), True))
    assert all(f"{at} GiB are free" in whole for at in range(64)) and "node[01-64]: clock" in whole


def test_an_odd_finding_stands_alone() -> None:
    checks = [*many(32, lambda at: "/ is full"), failed("DOCKER_OLD", "docker", "too old", "update it").at(ODD)]
    assert "  FAIL node07: docker: too old" in lines.check_lines(checks, False)


def test_findings_of_two_hosts_have_a_row_each() -> None:
    rows = lines.check_lines(many(2, lambda at: "/ is full"), False)
    assert [row[7:13] for row in rows if "FAIL" in row] == ["node01", "node02"]


# The state of a cluster.


def state(count: int, silent: int = 0, due: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    found, _ = run(case(count, {name: {"image": None} for name in due}))
    hosts = []
    for name in names(count):
        steps = {step: name not in found.hosts_of(step) for step in STEPS}
        hosts.append({"name": name, "error": None, "steps": steps, "chips": 16, "ray": True})
    for host in hosts[count - silent :]:
        host |= {"error": "SSH_DOWN", "detail": f"{host['name']} does not answer", "steps": {}}
    return hosts


def test_equal_hosts_are_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuslines.host_table(state(64))[1] == "node[01-64]", "a line of its own where its column is narrow"
    monkeypatch.setenv("COLUMNS", "100")
    rows = statuslines.host_table(state(64))
    assert len(rows) == 2 and rows[1].startswith("node[01-64] ok")


def test_unlike_hosts_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    rows = statuslines.host_table(state(32, silent=3, due=(ODD,)))
    assert [row.split()[0] for row in rows] == ["host", ODD, "node[30-32]", "node[01-06,08-29]", "node[30-32]"]
    assert "due" in rows[1] and rows[-1] == "node[30-32]  SSH_DOWN: node30 does not answer (said of node30)"


def test_of_two_hosts_each_has_a_row() -> None:
    assert [row.split()[0] for row in statuslines.host_table(state(2))] == ["host", "node01", "node02"]


# Causes.


def test_the_cause_comes_first_and_once() -> None:
    causes = ["flaggems: 111111111111 → 222222222222", "engine.max_num_seqs: 256 → 128"]
    rows = cause_lines(causes, [("flaggems", "1" * 40, "2" * 40, "main")])
    assert rows == [
        "  cause     engine.max_num_seqs: 256 → 128",
        "  locked    flaggems: 111111111111 → 222222222222 (main)",
    ]


# Errors.


def test_hosts_that_do_not_answer_are_few_lines() -> None:
    def away(name: str) -> Failure:
        said = f"{name} (10.0.0.{int(name[4:])}) refuses"
        return Failure(name, "", "", "SSH_DOWN", said, ("ssh: refused",), "start sshd")

    error = unreachable([away(name) for name in names(64)[:32]], 64)
    rows = lines.error_lines(error)
    assert len(rows) < 12 and "32 of 64 hosts" in rows[0]
    assert sum("node[01-32]" in row for row in rows) == 3
    few = "\n".join(lines.error_lines(unreachable([away(name) for name in names(2)], 2)))
    assert "node01 (10.0.0.1) refuses" in few and "node02 (10.0.0.2) refuses" in few
