"""Messages for 2 am: a line a problem, whole words, each finding under its own name, tasks by what they do."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from r1deploy.ansible.events import Event, Kind
from r1deploy.ansible.failures import Failure, failure_of
from r1deploy.errors import ConfigError, PreflightError
from r1deploy.inputs.key import prove_key
from r1deploy.inputs.locking import resolve, resolved
from r1deploy.observe.blocking import unreachable
from r1deploy.planning.diagrecord import DiagRecord, standings
from r1deploy.settings.load import load
from r1deploy.ui import lines, statuslines
from r1deploy.verbs.preflight import finding


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")


def test_two_problems_are_two_lines() -> None:
    """field.md 5.13: of the settings."""
    text = "the settings have 2 problems\n  r1deploy.yaml:3: engine.prot: unknown key\n  r1deploy.yaml:9: slots: 0"
    rows = lines.error_lines(ConfigError("SETTINGS_VALUE", text, fix="mend one\nmend the other"))
    assert rows == [
        "Error: SETTINGS_VALUE: the settings have 2 problems",
        "  r1deploy.yaml:3: engine.prot: unknown key",
        "  r1deploy.yaml:9: slots: 0",
        "  Fix: mend one",
        "       mend the other",
    ]


def test_two_hosts_that_do_not_answer_are_two_lines() -> None:
    """field.md 5.13: of hosts."""
    rows = [
        Failure(host, "probe", "Look", "SSH_REFUSED", "nothing listens on its SSH port", (), f"look at {host}", True)
        for host in ("node1", "node2")
    ]
    said = lines.error_lines(unreachable(rows, 3))
    assert said[0] == "Error: SSH_REFUSED: 2 of 3 hosts; nothing was begun on any"
    assert said[2:] == [
        "  node1: nothing listens on its SSH port (SSH_REFUSED)",
        "  node2: nothing listens on its SSH port (SSH_REFUSED)",
        "  Fix: node1: look at node1",
        "       node2: look at node2",
    ]
    assert unreachable(rows[:1], 3).message.startswith("node1: nothing listens")


def test_evidence_is_not_cut_in_a_word() -> None:
    """field.md 5.13."""
    long = (
        "fatal: " + " ".join(f"word{number:03d}" for number in range(20)) + " /a/path/that/is/longer/than/" + "x" * 70
    )
    rows = lines.evidence_lines(["  indented", "", long])
    assert rows[0] == "  | indented" and rows[1] == "  |"
    assert all(word in " ".join(rows).split() for word in long.split()), rows
    assert all(row.startswith("  | ") for row in rows[2:])
    cut = lines.evidence_lines([" ".join(f"word{number:03d}" for number in range(400))])
    assert len(cut) == lines.MOST_ROWS + 1 and cut[-1].endswith("…")
    assert all(len(word) == 7 for row in cut[:-1] for word in row.removeprefix("  | ").split())


def test_a_long_message_of_a_module_ends_with_a_word() -> None:
    said = " ".join(f"word{number:03d}" for number in range(100))
    found = failure_of(Event("failed", "host", "Lay down the scripts", "node1", {"msg": said}))
    assert found.message.endswith(" …") and len(found.message) <= 302
    assert set(map(len, found.message.removesuffix(" …").split())) == {7}


# What Ansible's events become without a terminal.


def event(kind: Kind, host: str | None, task: str) -> Event:
    return Event(kind, "reset", task, host)


def test_a_task_that_is_skipped_everywhere_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    """field.md 5.13: "Remove the image" was shown, and seemed to be what failed next."""
    with lines.Progress() as shown:
        shown.event(event("task", None, "Remove the image"))
        shown.event(event("start", "node1", "Remove the image"))
        shown.event(event("skipped", "node1", "Remove the image"))
        shown.event(event("task", None, "Remove our folder"))
        shown.event(event("start", "node1", "Remove our folder"))
        shown.event(event("failed", "node1", "Remove our folder"))
        shown.event(event("task", None, "Skipped in the end"))
    time.sleep(lines.HOLD_SECONDS * 1.5)
    said = capsys.readouterr().err
    assert [line.split("s  reset     ")[1] for line in said.splitlines()] == [
        "Remove our folder",
        "node1: failed: Remove our folder",
    ]


def test_a_task_that_takes_long_is_said_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with lines.Progress() as shown:
        shown.event(event("task", None, "Build"))
        shown.event(event("start", "node1", "Build"))
        end = time.monotonic() + 10
        said = ""
        while "Build" not in said and time.monotonic() < end:
            time.sleep(0.02)
            said += capsys.readouterr().err
        assert "Build" in said
        shown.event(event("changed", "node1", "Build"))
    assert capsys.readouterr().err == "", "once is enough"


# The state of a cluster.


@pytest.mark.parametrize(
    ("serving", "word"), [(None, "unknown: no answer from node1"), (False, "not serving"), (True, "serves r1")]
)
def test_unknown_is_not_stopped(serving: bool | None, word: str) -> None:
    """field.md 5.10."""
    host = {"name": "node1", "error": "SSH_DNS", "detail": "its name does not resolve", "steps": {}}
    found = {"cluster": "c", "release": "r", "config": "k", "active": None, "models": ["r1"], "serving": serving}
    found |= {"service": "stopped" if serving is False else "unknown", "unknown": ["node1"] if serving is None else []}
    found |= {"answer": None, "last_answer": None, "problems": []}
    found["diag"] = [dataclasses.asdict(row) for row in standings("r", ["node1"], {})]
    rows = statuslines.status_lines({**found, "endpoint": None, "run": None, "ray_nodes": 0, "hosts": [host]})
    assert next(row for row in rows if row.startswith("service")).split(None, 1)[1].startswith(word)


def test_what_diag_found_is_a_line_a_part() -> None:
    entry = {"release": "r", "ok": True, "chips": 16, "findings": 0, "run": "0a1b"}
    entry["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3 * 86_400 - 60))
    record = DiagRecord.model_validate({"kernels": entry, "network": {**entry, "ok": False}})
    found = [dataclasses.asdict(row) for row in standings("r", ["node1"], {"node1": record})]
    rows = statuslines.diag_lines(found)
    assert rows == [
        "diag      chips: never",
        "          kernels: verified on 1 host, 16 chips, 3 days ago",
        "          network: found something wrong 3 days ago:",
        "            r1deploy diag network",
    ]
    assert statuslines.diag_lines([{**row, "state": "never"} for row in found]) == ["diag      never (r1deploy diag)"]


# Findings under their own names.


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"file://{tmp_path}/no-such-repository"
    (tmp_path / "r1deploy.yaml").write_text(
        f"image: {{tarball: no.tar}}\nflaggems: {{url: '{url}'}}\nflagscale: {{url: '{url}', ref: main}}\n"
    )
    return tmp_path


def test_the_tarball_and_the_key_have_checks_of_their_own(nowhere: Path) -> None:
    """field.md 5.13: all of them were findings of "git"."""
    settings = load(nowhere, {}, {}).settings
    lock, problems = resolved(settings, None, frozenset(), lambda _: None)
    assert lock.flaggems is None and lock.image is None
    named = [(check.name, check.code) for check in map(finding, problems)]
    assert ("tarball", "TARBALL_MISSING") in named
    assert {name for name, code in named if code.startswith("GIT_")} == {"git"}
    with pytest.raises(PreflightError) as caught:
        prove_key(settings, {})
    assert (finding(caught.value).name, caught.value.code) == ("key", "KEY_MISSING")


def test_all_that_cannot_be_resolved_is_told_at_once(nowhere: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        resolve(load(nowhere, {}, {}).settings, None, frozenset(), lambda _: None)
    rows = caught.value.message.splitlines()
    assert len(rows) >= 3 and "no.tar: no such file (TARBALL_MISSING)" in rows[-1]


@pytest.mark.parametrize(
    "said",
    [
        "no such identity: /home/ops/key: No such file or directory\nops@10.0.0.1: Permission denied (publickey).",
        "Warning: Identity file /x not accessible: No such file or directory.\nroot@h: Permission denied (publickey).",
        '@ WARNING: UNPROTECTED PRIVATE KEY FILE!\nLoad key "/k": bad permissions\nr@h: Permission denied (publickey).',
        'Load key "/k": error in libcrypto\nroot@h: Permission denied (publickey).',
        'Load key "/k": invalid format\nroot@h: Permission denied (publickey).',
    ],
)
def test_a_missing_key_file_is_not_a_refused_login(said: str) -> None:
    """field.md 5.13."""
    found = failure_of(Event("unreachable", "probe", "Look at the host", "node1", {"msg": said}))
    assert found.code == "SSH_KEY_FILE"
    refused = Event("unreachable", "probe", "Look", "node1", {"msg": "root@h: Permission denied (publickey)."})
    assert failure_of(refused).code == "SSH_AUTH"


def test_a_drawn_line_of_the_evidence_fits() -> None:
    """The border of the smi tool's table is one word of 81 characters."""
    rows = lines.evidence_lines(["| +" + "-" * 79 + "+", "| 14   BI-V150", "-" * 12])
    assert max(map(len, rows)) <= 80 and rows[-1].endswith("-" * 12) and "BI-V150" in rows[-2]
