"""Playbooks in two lanes at once: environments of their own, one that fails, and a whole end of both."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.ansible import watchdog
from r1deploy.ansible.events import Event
from r1deploy.ansible.runner import Play, Target
from r1deploy.errors import ApplyError
from r1deploy.run import Run, Voice
from r1deploy.settings.model import Ssh
from tests.unit import test_ending as ending

SECONDS = 60
MEETS = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Say that it is here
      ansible.builtin.file: {{path: "{place}/{{{{ inventory_hostname }}}}", state: touch, mode: "0600"}}
    - name: Wait for the other one
      ansible.builtin.wait_for: {{path: "{place}/{{{{ other[inventory_hostname] }}}}", timeout: 60}}
      vars: {{other: {{one: two, two: one}}}}
    - name: Look at the environment
      ansible.builtin.copy: {{dest: "{place}/{{{{ inventory_hostname }}}}.env", content: "{content}", mode: "0600"}}
"""
FAILS = """
- hosts: one
  gather_facts: false
  tasks:
    - ansible.builtin.wait_for: {{path: "{place}/two", timeout: 60}}
    - ansible.builtin.fail: {{msg: it broke}}
- hosts: two
  gather_facts: false
  tasks:
    - ansible.builtin.file: {{path: "{place}/two", state: touch, mode: "0600"}}
    - ansible.builtin.wait_for: {{path: "{place}/released", timeout: 60}}
    - ansible.builtin.file: {{path: "{place}/ended its play", state: touch, mode: "0600"}}
- hosts: two
  gather_facts: false
  tasks:
    - ansible.builtin.file: {{path: "{place}/went on", state: touch, mode: "0600"}}
"""


def lookup(name: str) -> str:
    return f"{{{{ lookup('env', '{name}') }}}}"


class Site:
    """A run whose hosts are this machine."""

    def __init__(self, place: Path, play: str) -> None:
        self.place = place
        local = f"ansible_connection=local ansible_become=false ansible_python_interpreter={sys.executable}"
        (place / "inventory.ini").write_text(f"one {local}\ntwo {local}\n")
        (place / "play.yml").write_text(play)
        target = Target(place / "inventory.ini", Ssh())
        context: Any = SimpleNamespace(target=target, settings=SimpleNamespace(ssh=Ssh()))
        self.heard: list[Event] = []
        self.run = Run(context, Voice())

    def lane(self, host: str) -> Callable[[], None]:
        desired: Any = SimpleNamespace(hosts=(), head=SimpleNamespace(name="one"))
        play = Play(str(self.place / "play.yml"), limit=host, lane=host)
        return lambda: self.run.apply(desired, play, self.heard.append)


def test_two_playbooks_at_once_have_environments_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_PRIVATE_KEY_FILE", "/the/callers")
    names = ("R1_RUN_FOLDER", "TMPDIR", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_SSH_CONTROL_PATH_DIR", "PATH")
    text = " ".join(lookup(name) for name in (*names, "ANSIBLE_PRIVATE_KEY_FILE"))
    site = Site(tmp_path, MEETS.format(place=tmp_path, content=text))
    before = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    site.run.side_by_side([site.lane("one"), site.lane("two")])
    assert dict(os.environ) == before
    found = {host: (tmp_path / f"{host}.env").read_text().split(" ") for host in ("one", "two")}
    for row in found.values():
        folder, *others, key = row
        assert key == "" and len(others) == len(names) - 1
        assert all(folder in other for other in others), "all of it lies in its own folder"
    assert found["one"][0] != found["two"][0]
    assert {(event.lane, event.host) for event in site.heard if event.kind == "changed"} == {
        ("one", "one"),
        ("two", "two"),
    }


def test_the_other_lane_ends_its_play_and_begins_no_other(tmp_path: Path) -> None:
    site = Site(tmp_path, FAILS.format(place=tmp_path))

    def release() -> None:
        assert site.run.lanes.failed.wait(SECONDS)
        (tmp_path / "released").touch()

    with pytest.raises(ApplyError) as caught:
        site.run.side_by_side([site.lane("one"), site.lane("two"), release])
    assert caught.value.code == "STEP_FAILED" and "it broke" in caught.value.message
    assert (tmp_path / "ended its play").exists() and not (tmp_path / "went on").exists()


SCRIPT = """
from pathlib import Path
from tests.unit.test_two_playbooks import Site
from r1deploy.cli import main as cli
play = Path("play.yml").read_text()
site = Site(Path.cwd(), play)
cli.app = lambda argv, **_: site.run.side_by_side([site.lane("one"), site.lane("two")])
cli.main()
"""


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    run = ending.Run(tmp_path, script=SCRIPT)
    run.begun()
    assert len(supervisors(run)) == 2
    yield run
    run.process.kill()
    run.process.wait()


def supervisors(run: ending.Run) -> list[int]:
    pids = watchdog.marked(run.temporary)
    return [pid for pid in pids if "supervisor.py" in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,), (signal.SIGHUP, signal.SIGHUP)],
    ids=["SIGINT", "SIGINT twice", "SIGTERM", "SIGHUP twice"],
)
def test_a_signal_ends_both_lanes_whole(both: ending.Run, numbers: tuple[signal.Signals, ...]) -> None:
    """field.md 6.1, 6.2, in both lanes."""
    for number in numbers:
        both.process.send_signal(number)
    text = both.process.communicate(timeout=20)[0]
    assert both.process.returncode == 130, text
    assert "work may go on for a while on one, two" in text
    assert both.left() == [] and both.folders() == []
    assert not (both.place / "went-on").exists()


def test_a_killed_run_leaves_nothing_of_either_lane(both: ending.Run) -> None:
    both.process.kill()
    both.process.wait()
    end = time.monotonic() + SECONDS
    while (both.left() or both.folders()) and time.monotonic() < end:
        time.sleep(0.05)
    assert both.left() == [] and both.folders() == []
    assert not (both.place / "went-on").exists()


def test_one_lane_out_of_memory_fails_the_run(both: ending.Run) -> None:
    """The other one ends its play, which goes on here once its task is released."""
    os.kill(supervisors(both)[0], signal.SIGKILL)
    both.go_on()
    text = both.process.communicate(timeout=SECONDS)[0]
    assert both.process.returncode == 6 and "ANSIBLE_FAILED" in text, text
    assert both.left() == [] and both.folders() == []
