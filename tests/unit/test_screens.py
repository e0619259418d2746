"""Plan, preflight and status on screens of 24 × 80 and 40 × 120, also where every second host differs."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from r1deploy.observe.choices import Choice
from r1deploy.ui import lines, statuslines
from r1deploy.ui.planlines import plan_lines
from r1deploy.ui.plans import planned_lines
from tests.manyhosts import case, empty, names
from tests.plans.test_plans import run
from tests.unit.test_wide import many, state

EVERY_SECOND = names(64)[::2]
SCREENS = pytest.mark.parametrize(("height", "width"), [(24, 80), (40, 120)])


def rendered(rows: list[str], width: int) -> list[str]:
    """The rows as a terminal of that width has them: a longer one would be folded."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(Text("\n".join(rows)))
    return out.getvalue().splitlines()


def fits(rows: list[str], width: int) -> bool:
    return [row.rstrip() for row in rendered(rows, width)] == [row.rstrip() for row in rows]


@SCREENS
def test_32_hosts_from_nothing(monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    found, desired = run(case(32, empty(names(32))))
    choices = [Choice("address", host.name, host.address, "inventory: r1_address") for host in desired.hosts]
    whole: Any = SimpleNamespace(
        view=SimpleNamespace(plan=found),
        causes=("engine.max_num_seqs: 256 → 128",),
        locks=(),
        diffs=(),
        choices=choices,
    )
    rows = planned_lines(whole, False)
    assert fits(rows, width) and len(rows) <= 60
    assert rows[0] == "  cause     engine.max_num_seqs: 256 → 128", "the cause is what is read first"


@SCREENS
@pytest.mark.parametrize("verbose", [False, True])
def test_a_plan_where_every_second_host_differs(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int, verbose: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rows = plan_lines(run(case(64, {name: {"image": None} for name in EVERY_SECOND}))[0], verbose)
    assert fits(rows, width) and len(rows) < height
    assert ("node[01,03," in "\n".join(rows)) and rows[-1].endswith("none.")
    assert verbose == ("node[57,59,61,63]" in "\n".join(rows)), "-v names them all"
    new = plan_lines(run(case(64, empty(EVERY_SECOND)))[0], False)
    assert fits(new, width) and len(new) <= 60


@SCREENS
def test_findings_of_every_second_host(monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    checks = [check for check in many(64, lambda at: "/ is full") if check.host in EVERY_SECOND]
    for verbose in (False, True):
        rows = [*lines.check_lines(checks, verbose), lines.verdict(checks)]
        assert fits(rows, width) and len(rows) < height
    whole = " ".join(" ".join(lines.check_lines(checks, False)).split())
    assert "node[57,59,61,63]: disk: / is full" in whole and "DISK_SPACE" in whole


@SCREENS
@pytest.mark.parametrize("silent", [False, True])
def test_the_state_of_64_hosts(monkeypatch: pytest.MonkeyPatch, height: int, width: int, silent: bool) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    hosts = state(64, due=() if silent else tuple(EVERY_SECOND))
    for host in hosts[::2] if silent else ():
        host |= {"error": "SSH_DOWN", "detail": f"{host['name']} does not answer", "steps": {}}
    rows = statuslines.host_table(hosts)
    assert fits(rows, width) and len(rows) < height
    whole = " ".join(" ".join(rows).split())
    assert "node[57,59,61,63]" in whole and "node[58,60,62,64]" in whole
    assert ("SSH_DOWN" in whole) == silent
    assert fits(statuslines.host_table(state(64)), width)
