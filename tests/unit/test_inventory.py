"""hostfile ⇄ inventory, and hosts from Ansible's variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1deploy.cluster import hostfile, inventories
from r1deploy.cluster.host import Host
from r1deploy.cluster.hostfile import HostEntry
from r1deploy.errors import ConfigError

ANSIBLE_INVENTORY = Path(sys.executable).parent / "ansible-inventory"
FLAGSCALE = "10.0.0.7 slots=16 type=gpu\n10.0.0.8 slots=16 type=gpu\ngpu-9 slots=8 type=gpu\n"


def hosts_of(text: str) -> list[str]:
    """Return the host lines of an inventory."""
    return text.split(f"[{inventories.GROUP}]\n", 1)[1].splitlines()


@pytest.mark.parametrize(
    ("entries", "lines"),
    [
        (
            [HostEntry("10.0.0.7", 16, "gpu"), HostEntry("gpu-9", 8, "gpu"), HostEntry("10.0.0.8", 16, "gpu")],
            [
                "node1 ansible_host=10.0.0.7 slots=16 type=gpu",
                "gpu-9 slots=8 type=gpu",
                "node3 ansible_host=10.0.0.8 slots=16 type=gpu",
            ],
        ),
        ([HostEntry("10.0.0.7", 16)], ["node1 ansible_host=10.0.0.7 slots=16"]),
        (
            [HostEntry("10.0.0.7", 1), HostEntry("node1", 1), HostEntry("all", 1)],
            ["r1-node1 ansible_host=10.0.0.7 slots=1", "node1 slots=1", "r1-node3 ansible_host=all slots=1"],
        ),
        ([HostEntry("node2", 1), HostEntry("node1", 1)], ["node2 slots=1", "node1 slots=1"]),
    ],
)
def test_render(entries: list[HostEntry], lines: list[str]) -> None:
    text = inventories.render(entries)
    assert hosts_of(text) == lines
    assert text.startswith("# ") and "head" in text.split("[", 1)[0]


def test_hosts_from_hostvars() -> None:
    hostvars: dict[str, dict[str, object]] = {
        "head": {"ansible_host": "203.0.113.5", "r1_address": "10.0.0.1", "slots": 16, "ansible_port": 2222},
        "w1": {"ansible_host": "10.0.0.2", "slots": "8", "type": "cpu", "ansible_user": "ops"},
    }
    assert inventories.hosts_from_hostvars(["head", "w1", "w2"], hostvars, 4) == [
        Host("head", "10.0.0.1", 16, "gpu", 2222, None, True, "203.0.113.5"),
        Host("w1", "10.0.0.2", 8, "cpu", None, "ops", False),
        Host("w2", "w2", 4, "gpu", None, None, False),
    ]


@pytest.mark.parametrize(
    ("found", "code", "says"),
    [
        ({"slots": 0}, "HOSTFILE_SLOTS", "slots=0"),
        ({"slots": -1}, "HOSTFILE_SLOTS", "slots"),
        ({"slots": True}, "HOSTFILE_SLOTS", "slots"),
        ({"slots": None}, "HOSTFILE_SLOTS", "slots"),
        ({"slots": "many"}, "HOSTFILE_SLOTS", "many"),
        ({"slots": 5000}, "HOSTFILE_SLOTS", "absurd"),
        ({"type": "npu"}, "HOSTFILE_TYPE", "npu"),
        ({"type": ["gpu"]}, "HOSTFILE_TYPE", "gpu or cpu"),
        ({"ansible_port": "ssh"}, "INVENTORY_VALUE", "ansible_port"),
        ({"ansible_port": 70000}, "INVENTORY_VALUE", "70000"),
        ({"ansible_host": "fd00::1"}, "HOSTFILE_ADDRESS", "r1_address"),
        ({"r1_address": "{{ x }}"}, "HOSTFILE_ADDRESS", "r1_address"),
        ({"ansible_host": "10.0.0.1"}, "HOSTFILE_DUPLICATE", "as node1 has"),
        ({"ansible_host": "10.0.0.9", "r1_address": "10.0.0.1"}, "HOSTFILE_DUPLICATE", "10.0.0.1"),
    ],
)
def test_bad_hostvars(found: dict[str, object], code: str, says: str) -> None:
    hostvars: dict[str, dict[str, object]] = {"node1": {"ansible_host": "10.0.0.1"}, "node2": found}
    with pytest.raises(ConfigError) as caught:
        inventories.hosts_from_hostvars(["node1", "node2"], hostvars, 16)
    assert (caught.value.code, caught.value.host) == (code, "node2")
    assert says in caught.value.message and "node2" in caught.value.message
    assert caught.value.fix


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        inventories.hosts_from_hostvars(["a", "b"], {"a": {"slots": 0}, "b": {"type": "x", "ansible_port": 0}}, 16)
    assert len(caught.value.message.splitlines()) == 4


def test_no_host() -> None:
    with pytest.raises(ConfigError) as caught:
        inventories.hosts_from_hostvars([], {}, 16)
    assert caught.value.code == "INVENTORY_EMPTY"


def ansible_hosts(path: Path) -> list[Host]:
    """Return the hosts of an inventory as Ansible reads it."""
    config = path.with_name("ansible.cfg")
    config.touch()
    run = subprocess.run(
        [ANSIBLE_INVENTORY, "-i", path, "--list"],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(path.parent), "ANSIBLE_CONFIG": str(config), "LC_ALL": "C.UTF-8"},
    )
    assert "WARNING" not in run.stderr
    found = json.loads(run.stdout)
    return inventories.hosts_from_hostvars(found[inventories.GROUP]["hosts"], found["_meta"]["hostvars"], 1)


def test_an_inventory_is_read_without_contacting_its_hosts(tmp_path: Path) -> None:
    """field.md 3.14: what stands in files is read from files."""
    path, mark, ssh = tmp_path / "inventory.ini", tmp_path / "called", tmp_path / "bin" / "ssh"
    path.write_text(inventories.render(hostfile.parse(FLAGSCALE, "hosts")), encoding="utf-8")
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\necho "$@" >> {mark}\nexit 255\n', encoding="utf-8")
    ssh.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "r1deploy", "inventory", "--hostfile", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{ssh.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, FLAGSCALE), done.stderr
    # `ssh -G` prints what the options mean, and connects to nobody.
    called = mark.read_text().splitlines() if mark.exists() else []
    assert [row for row in called if "-G" not in row.split()] == []


@pytest.mark.skipif(not ANSIBLE_INVENTORY.exists(), reason="ansible-inventory is not installed beside Python")
def test_hostfile_through_ansible_and_back(tmp_path: Path) -> None:
    path = tmp_path / "inventory.ini"
    path.write_text(inventories.render(hostfile.parse(FLAGSCALE, "hosts")), encoding="utf-8")
    assert not hostfile.looks_like_hostfile(path)
    hosts = ansible_hosts(path)
    assert [host.name for host in hosts] == ["node1", "node2", "gpu-9"]
    assert [host.is_head for host in hosts] == [True, False, False]
    assert inventories.to_hostfile(hosts) == FLAGSCALE
