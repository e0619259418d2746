"""What Ansible read in an inventory is kept, and believed only while nothing of it can have changed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1deploy.ansible.runner import Target
from r1deploy.observe import ansiblerows
from r1deploy.observe.ansiblerows import KEPT, inventory_rows, key_of
from r1deploy.settings.model import Ssh

ROWS = [{"name": "node1", "grouped": True, "ansible_host": "10.0.0.1", "slots": 16}]


class Site:
    """A folder with an inventory; ``asked`` counts how often Ansible was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.rows, self.asked = folder, list(ROWS), 0
        self.inventory = folder / "inventory.ini"
        self.inventory.write_text("[cluster]\nnode1 ansible_host=10.0.0.1 slots=16\n")
        self.kept = folder / "memory" / KEPT
        monkeypatch.setattr(ansiblerows, "asked", self._ask)

    def _ask(self, target: Target) -> list[dict[str, Any]]:
        self.asked += 1
        return [dict(row) for row in self.rows]

    def target(self, **ssh: Any) -> Target:
        return Target(self.inventory, Ssh(**ssh), self.folder / "memory")

    def read(self, **ssh: Any) -> list[dict[str, Any]]:
        return inventory_rows(self.target(**ssh))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_what_did_not_change_is_read_once(site: Site) -> None:
    assert [site.read() for _ in range(3)] == [ROWS] * 3
    assert site.asked == 1
    assert stat.S_IMODE(site.kept.stat().st_mode) == 0o600


def changed_file(site: Site) -> None:
    site.inventory.write_text(site.inventory.read_text() + "# a word\n")


def new_group_vars(site: Site) -> None:
    (site.folder / "group_vars" / "cluster").mkdir(parents=True)
    (site.folder / "group_vars" / "cluster" / "ssh.yml").write_text("ansible_user: root\n")


def new_host_vars(site: Site) -> None:
    (site.folder / "host_vars").mkdir()
    (site.folder / "host_vars" / "node1").write_text("slots: 8\n")


@pytest.mark.parametrize("change", [changed_file, new_group_vars, new_host_vars])
def test_a_changed_source_is_read_again(site: Site, change: Callable[[Site], None]) -> None:
    site.read()
    change(site)
    site.rows = [{**ROWS[0], "slots": 8}]
    assert site.read()[0]["slots"] == 8
    assert (site.read()[0]["slots"], site.asked) == (8, 2)


def test_other_settings_of_ssh_are_read_with(site: Site) -> None:
    site.read()
    site.read(user="root")
    assert site.asked == 2


def a_program(site: Site) -> None:
    site.inventory.chmod(0o755)


def a_template(site: Site) -> None:
    site.inventory.write_text("node1 ansible_host=\"{{ lookup('env', 'HEAD') }}\"\n")


def a_plugin(site: Site) -> None:
    site.inventory.write_text("plugin: ansible.builtin.constructed\n")


def a_vault(site: Site) -> None:
    new_group_vars(site)
    (site.folder / "group_vars" / "cluster" / "secret.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3031\n")


@pytest.mark.parametrize("make", [a_program, a_template, a_plugin, a_vault])
def test_a_source_that_can_mean_another_thing_tomorrow_is_asked_each_time(
    site: Site, make: Callable[[Site], None]
) -> None:
    make(site)
    site.read()
    site.read()
    assert (site.asked, site.kept.exists()) == (2, False)


def test_a_folder_of_sources_is_known_by_all_its_files(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "hosts"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "01.ini").write_text("node1\n")
    target = Target(folder, Ssh(), tmp_path)
    before = key_of(target)
    (folder / "group_vars" / "all.yml").write_text("slots: 4\n")
    assert before is not None
    assert key_of(target) not in (None, before)


def test_a_password_is_not_kept(site: Site) -> None:
    site.rows = [{**ROWS[0], "ansible_become_password": "canary"}]
    site.read()
    site.read()
    assert (site.asked, site.kept.exists()) == (2, False)


def torn(text: str) -> str:
    return text[: len(text) // 2]


def other_host(text: str) -> str:
    return text.replace("10.0.0.1", "10.0.0.2")


def other_shape(text: str) -> str:
    return json.dumps({**json.loads(text), "rows": {"node1": 1}})


def no_rows(text: str) -> str:
    return json.dumps({**json.loads(text), "rows": []})


def a_list(text: str) -> str:
    return "[1]"


def nothing(text: str) -> str:
    return ""


@pytest.mark.parametrize("damage", [torn, other_host, other_shape, no_rows, a_list, nothing])
def test_a_damaged_file_is_never_believed(site: Site, damage: Callable[[str], str]) -> None:
    site.read()
    text = site.kept.read_text()
    site.kept.write_text(damage(text))
    assert (site.read(), site.asked) == (ROWS, 2)
    assert site.kept.read_text() == text


def test_a_file_that_others_may_write_is_not_believed(site: Site) -> None:
    site.read()
    site.kept.chmod(0o664)
    site.read()
    assert site.asked == 2


def test_where_nothing_can_be_kept_ansible_is_asked(site: Site) -> None:
    (site.folder / "memory").write_text("a file stands in the way")
    assert (site.read(), site.read(), site.asked) == (ROWS, ROWS, 2)


def test_ansible_itself_is_asked(tmp_path: Path) -> None:
    """What is kept is what Ansible says, groups and their variables applied."""
    (tmp_path / "inventory.ini").write_text("[cluster]\nnode[1:2] slots=4\n")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "cluster.yml").write_text("ansible_user: operator\n")
    target = Target(tmp_path / "inventory.ini", Ssh(), tmp_path / "memory")
    first = inventory_rows(target)
    assert [(row["name"], row["slots"], row["ansible_user"]) for row in first] == [
        ("node1", 4, "operator"),
        ("node2", 4, "operator"),
    ]
    assert os.listdir(tmp_path / "memory") == [KEPT]
    assert inventory_rows(target) == first
