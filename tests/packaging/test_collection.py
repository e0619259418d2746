"""The collection ``r1deploy.cluster`` as ansible-galaxy builds and installs it: without an index, without the CLI."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import r1deploy
from tests.packaging.test_wheel import ONHOST, TOP, bare, copied, git_files

BIN = Path(sys.executable).parent
METADATA = yaml.safe_load((TOP / "galaxy.yml").read_text(encoding="utf-8"))
# For the CLI only: its configuration, its look at the hosts.
FOR_THE_CLI = {"playbooks/ansible.cfg", "playbooks/inventory.yml"}
LINK = "plugins/module_utils/onhost"
PLAYBOOKS = sorted(
    path.stem for path in (TOP / "playbooks").glob("*.yml") if f"playbooks/{path.name}" not in FOR_THE_CLI
)
ROLES = sorted(path.name for path in (TOP / "roles").iterdir())


def wanted() -> set[str]:
    """What belongs in the artifact, by what git knows."""
    tops = ("LICENSE", "README.md", "meta/", "playbooks/", "plugins/", "roles/", "r1deploy/onhost/")
    names = {name for name in git_files() if name.startswith(tops) and not name.startswith("plugins/action/")}
    return names - FOR_THE_CLI


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built from a copy of the checkout in which ignored files lie about."""
    folder = tmp_path_factory.mktemp("collection")
    argv = ("collection", "build", "--output-path", folder, copied(folder))
    done = bare(f"HOME={folder}", BIN / "ansible-galaxy", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def installed(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of collections in which it is installed; what it depends on comes with the package ``ansible``."""
    folder = tmp_path_factory.mktemp("installed")
    argv = ("collection", "install", artifact, "-p", folder, "--offline")
    done = bare(f"HOME={folder}", f"ANSIBLE_COLLECTIONS_PATH={folder}", BIN / "ansible-galaxy", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def ansible(installed: Path, program: str, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of Ansible's that finds the installed collection."""
    return bare(f"HOME={installed}", f"ANSIBLE_COLLECTIONS_PATH={installed}", BIN / program, *argv)


def test_its_version_is_the_programs() -> None:
    assert METADATA["version"] == r1deploy.__version__


def test_the_artifact_holds_the_collection_and_nothing_else(artifact: Path) -> None:
    with tarfile.open(artifact) as archive:
        members = {row.name: row for row in archive.getmembers() if not row.isdir()}
    assert set(members) - {"MANIFEST.json", "FILES.json"} == wanted()
    assert members[LINK].issym() and members[LINK].linkname == "../../r1deploy/onhost"
    assert {f"r1deploy/onhost/{path.name}" for path in ONHOST} <= set(members)


def test_everything_a_role_needs_is_a_dependency() -> None:
    """The collections whose modules the roles and plays use."""
    text = "".join(
        path.read_text(encoding="utf-8") for top in ("roles", "playbooks") for path in (TOP / top).rglob("*.yml")
    )
    used = {
        name for name in ("ansible.posix", "community.crypto", "community.docker", "community.general") if name in text
    }
    assert used == set(METADATA["dependencies"])


def test_plays_find_their_roles_and_modules(installed: Path) -> None:
    done = ansible(installed, "ansible-playbook", "--syntax-check", *(f"r1deploy.cluster.{name}" for name in PLAYBOOKS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(PLAYBOOKS) > 4 and done.stdout.count("playbook: ") == len(PLAYBOOKS)


def test_roles_and_modules_are_documented(installed: Path) -> None:
    done = ansible(installed, "ansible-doc", "-t", "role", "-l", "--json", "r1deploy.cluster")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert sorted(found) == [f"r1deploy.cluster.{role}" for role in ROLES]
    assert all(row["entry_points"] for row in found.values())
    done = ansible(installed, "ansible-doc", "--json", "r1deploy.cluster.r1_tree", "r1deploy.cluster.r1_pull")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(row["examples"] and row["doc"]["options"] for row in json.loads(done.stdout).values())


def test_a_module_runs_with_what_it_needs(installed: Path, tmp_path: Path) -> None:
    """Its part of ``onhost`` goes to the host with it."""
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "file").write_text("x", encoding="utf-8")
    task: dict[str, Any] = {"root": str(tmp_path), "parts": ["part"], "state": "recorded"}
    argv = ("-m", "r1deploy.cluster.r1_tree", "-a", json.dumps(task), "-c", "local", "localhost")
    said = [ansible(installed, "ansible", *argv) for _ in range(2)]
    assert ["CHANGED" in said[0].stdout, "SUCCESS" in said[1].stdout] == [True, True], said
    assert json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["files"]
