"""``r1deploy export``: what an Ansible user expects, complete, without a path of the machine that wrote it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import r1deploy
from r1deploy import content
from r1deploy.cluster.host import Host
from r1deploy.errors import ConfigError
from r1deploy.observe.probing import Probed
from r1deploy.observe.view import View, desire
from r1deploy.planning.observed import Observed, observed_of
from r1deploy.planning.planner import plan
from r1deploy.planning.steps import STEPS
from r1deploy.render import SECRET
from r1deploy.settings.model import Settings
from r1deploy.verbs import export
from tests.plans import test_plans as cases

BIN = Path(sys.executable).parent
KEYS = ("ssh-ed25519 " + "A" * 68, "ssh-rsa " + "B" * 372)


def seen(hosts: tuple[Host, ...], settings: Settings) -> dict[str, Observed]:
    """Hosts on which nothing is yet, each with keys as long as real ones."""
    lock = cases.lock_of(settings, cases.BASE["lock"])
    desired = cases.desired_of(settings, lock, hosts, dict.fromkeys((row.name for row in hosts), "eth0"))
    found = {}
    for host in hosts:
        raw = cases.fill(cases.BASE["observed"], cases.names_of(desired, host))
        raw["ssh"]["host_keys"] = list(KEYS)
        found[host.name] = observed_of(raw)
    return found


def view(*names: str, **settings: Any) -> View:
    """A cluster of these hosts as an inventory and a look at them give it."""
    wanted = cases.settings_of(cases.BASE["settings"], settings)
    hosts = cases.hosts_of({"hosts": list(names)})
    observed = seen(hosts, wanted)
    login = {
        host.name: {
            "name": host.name,
            "ansible_host": host.address,
            "ansible_user": "ops",
            "slots": 16,
            "grouped": True,
        }
        for host in hosts
    }
    login[hosts[0].name]["ansible_become_password"] = "canary-of-sudo"
    probed = Probed(hosts, observed, login=login)
    lock = cases.lock_of(wanted, cases.BASE["lock"])
    desired, rendered = desire(wanted, lock, probed)
    return View(lock, probed, desired, rendered, plan(desired, observed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of two hosts with an API key, a tarball and the site's CAs."""
    given = tmp_path_factory.mktemp("given")
    (given / "key").write_text("canary-of-the-api\n", encoding="utf-8")
    (given / "key").chmod(0o600)
    (given / "ca.pem").write_text("the site's CAs\n", encoding="utf-8")
    target = tmp_path_factory.mktemp("export") / "made"
    settings = {
        "service.api_key_file": str(given / "key"),
        "site.ca_bundle": str(given / "ca.pem"),
        "image.tarball": "/of-the-exporter/baai.tar",
    }
    assert export.write(view("node1", "node2", **settings), target)[0] == f"wrote {target}"
    return target


def run(folder: Path, program: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """A program of Ansible's in the folder, as somebody runs it who only knows Ansible."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"PATH": f"{BIN}{os.pathsep}{environment['PATH']}", "HOME": str(folder.parent)}
    return subprocess.run(
        [BIN / program, *argv], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def texts(folder: Path) -> dict[str, str]:
    rows = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in rows}


def test_it_has_what_an_ansible_user_expects(folder: Path) -> None:
    top = {"README.md", "ansible.cfg", "ca.pem", "collections", "files", "inventory", "site.yml"}
    assert {path.name for path in folder.iterdir()} == top
    names = {name for name in texts(folder) if name.startswith(("inventory/", "collections/requirements"))}
    assert names == {
        "collections/requirements.yml",
        "inventory/group_vars/all.yml",
        "inventory/host_vars/node1.yml",
        "inventory/host_vars/node2.yml",
        "inventory/hosts.yml",
    }
    assert "node1/env.sh" in "".join(texts(folder / "files"))
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_ansible_reads_it_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    """The order of the hosts, every group of a step, each variable once and the folder's own paths."""
    moved = tmp_path / "else where"
    folder.rename(moved)
    try:
        said = run(moved, "ansible-inventory", "--list", "--yaml")
        assert said.returncode == 0, said.stderr
        groups = yaml.safe_load(said.stdout)["all"]["children"]
        assert {f"drift_{step}" for step in STEPS} | {"r1_head", "r1_builder"} <= set(groups)
        task = "msg={{ [config_source, r1_staging, guest_ca_file] | to_json }}"
        done = run(moved, "ansible", "all", "-c", "local", "-e", "ansible_become=false", "-m", "debug", "-a", task)
        assert done.returncode == 0, done.stdout + done.stderr
        for name in ("node1", "node2"):
            assert f'{moved}/files/{name}\\", \\"{moved}/.staging\\", \\"{moved}/ca.pem' in done.stdout
        listed = run(moved, "ansible", "all", "--list-hosts").stdout
        assert listed.split()[-2:] == ["node1", "node2"], "the first one is the head"
    finally:
        moved.rename(folder)


def test_no_path_of_this_machine_but_what_cannot_be_inside(folder: Path) -> None:
    """One variable each; the README names it."""
    written = texts(folder)
    here = re.compile(rf"/of-the-exporter/|{re.escape(str(folder.parent.parent))}|{re.escape(str(content.TOP))}")
    assert [name for name, text in written.items() if here.search(text)] == ["inventory/group_vars/all.yml"]
    lines = [line for line in written["inventory/group_vars/all.yml"].splitlines() if here.search(line)]
    assert [line.partition(":")[0] for line in lines] == ["image_tarball"]
    assert "`image_tarball`" in (folder / "README.md").read_text(encoding="utf-8")


def test_no_secret_is_in_it(folder: Path) -> None:
    assert not [name for name, text in texts(folder).items() if "canary" in text or name.endswith(f"/{SECRET}")]


def test_what_is_given_is_named(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        f"ansible-playbook site.yml -e patch_key_file=/path/to/private_key.pem -e config_api_key_file=/path/to/{SECRET}"
        in text
    )
    assert "r1deploy.cluster" in text and all(step in text for step in STEPS)


def test_what_hosts_share_is_said_once(folder: Path) -> None:
    read = {name: yaml.safe_load(re.sub("!unsafe ", "", text)) for name, text in texts(folder / "inventory").items()}
    everywhere, first = read["group_vars/all.yml"], read["host_vars/node1.yml"]
    assert everywhere["ansible_user"] == "ops" and set(everywhere) & set(first) == set()
    assert set(first) == {"ansible_host", "config_files"}


def test_one_host_has_its_own(tmp_path: Path) -> None:
    export.write(view("node1"), tmp_path)
    text = (tmp_path / "inventory" / "host_vars" / "node1.yml").read_text(encoding="utf-8")
    assert "ansible_host" in text and "config_source" in text
    assert not (tmp_path / "ca.pem").exists()


def test_ansible_lint_finds_nothing(folder: Path) -> None:
    """With the strictest profile, nothing mocked and no rule left out."""
    done = run(folder, "ansible-lint", "--offline", "--profile", "production", "-q")
    assert done.returncode == 0, done.stdout + done.stderr


def test_galaxy_knows_the_collection(folder: Path) -> None:
    """What it needs is asked for, and its own version is told without a warning."""
    done = run(folder, "ansible-galaxy", "collection", "list", "r1deploy.cluster", "-p", "collections")
    assert done.returncode == 0 and r1deploy.__version__ in done.stdout, done.stderr
    assert "WARNING" not in done.stderr
    needed = yaml.safe_load((folder / "collections" / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    metadata = yaml.safe_load((content.TOP / "galaxy.yml").read_text(encoding="utf-8"))
    assert {row["name"]: row["version"] for row in needed} == metadata["dependencies"]


def test_the_play_finds_roles_and_modules(folder: Path) -> None:
    done = run(folder, "ansible-playbook", "site.yml", "--list-tasks", "--tags", "image,vllm")
    assert done.returncode == 0, done.stdout + done.stderr
    plays = re.findall(r"play #\d+ .*?: (\w+):.*TAGS: \[(\w+)\]", done.stdout)
    assert {tag for _, tag in plays} == set(STEPS) and all(name.lower() == tag for name, tag in plays)


def test_check_mode_of_one_step_tells_what_it_would_do(folder: Path, tmp_path: Path) -> None:
    """``--tags host --check``, this machine plays the head: by the play's tag the role's tasks run, and do nothing."""
    place = tmp_path / "state"
    folders = [{"path": str(place), "mode": "0755"}, {"path": str(place / "bin"), "mode": "0755"}]
    given = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    given |= {"host_state_dir": str(place), "host_folders": folders}
    argv = ("site.yml", "--check", "--limit", "node1", "-e", json.dumps(given))
    done = run(folder, "ansible-playbook", *argv, "--tags", "host")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^node1 .* changed=2 ", done.stdout, re.M), done.stdout
    assert "r1deploy.cluster.host : Make the folders" in done.stdout and "Look at the image" not in done.stdout
    assert not place.exists()


def test_nothing_in_it_needs_a_package_of_ours(folder: Path) -> None:
    """Whoever has the folder alone runs it: nothing that Ansible loads there imports r1deploy."""
    scripts = sorted(folder.rglob("*.py"))
    names = {path.name for path in scripts}
    assert {"r1_tree.py", "r1_pull.py", "r1guest.py"} <= names
    assert {path.name for path in (content.PACKAGE / "onhost").glob("*.py")} <= names
    for path in scripts:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [row.name for row in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert [name for name in found if name.split(".")[0] == "r1deploy"] == [], path.name


def test_a_missing_ca_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ca_bundle"):
        export.write(view("node1", **{"site.ca_bundle": str(tmp_path / "no.pem")}), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []
