"""One engine for all (field.md 4.1): the socket, in every play, command and script that talks to Docker."""

from __future__ import annotations

import re
from typing import Any

import pytest

from r1deploy import content
from r1deploy.dockercli import SOCKET, STEERING, docker
from tests.roles.test_contracts import ROLES, defaults, files, read, tasks

DEFAULTS = {"docker_host": SOCKET, "tls": False, "validate_certs": False, "api_version": "auto"}


def plays() -> list[Any]:
    # The probe asks the socket by itself, and reading the inventory asks nobody: no role is in those plays.
    paths = [path for path in sorted(content.PLAYBOOKS.glob("*.yml")) if path.stem not in ("probe", "inventory")]
    found = [(path, play) for path in paths for play in read(path) if "hosts" in play]
    assert {path.stem for path, _ in found} == {path.stem for path in paths}
    return [pytest.param(play, id=f"{path.stem}: {play['name']}") for path, play in found]


@pytest.mark.parametrize("play", plays())
def test_every_play_names_the_socket(play: dict[str, Any]) -> None:
    assert play["module_defaults"] == {"group/community.docker.docker": DEFAULTS}


def test_no_task_runs_the_bare_client() -> None:
    for path in files():
        for task in tasks(read(path)):
            argv = next((value["argv"] for key, value in task.items() if key.split(".")[-1] == "command"), "")
            assert "docker" not in list(argv) and "docker'" not in str(argv), f"{path}: {task.get('name')}"


def test_the_roles_have_the_same_client() -> None:
    found = [defaults(role)[f"{role}_docker"] for role in ROLES if f"{role}_docker" in defaults(role)]
    assert len(found) == 2 and all(row == docker() for row in found)


def test_the_client_is_led_nowhere_else() -> None:
    words = docker("ps")
    assert words[-4:] == ["docker", "--host", SOCKET, "ps"]
    assert {words[n + 1] for n, word in enumerate(words) if word == "-u"} == set(STEERING)


@pytest.mark.parametrize("name", ["r1trust.py"])
def test_scripts_for_hosts_name_the_same_socket(name: str) -> None:
    assert f'"{SOCKET}"' in (content.HELPERS / name).read_text(encoding="utf-8")


def test_nobody_else_starts_the_client() -> None:
    """A new place that runs docker on a host goes through ``docker()``."""
    package = content.TOP / "r1deploy"
    for path in sorted(package.rglob("*.py")):
        if "lab" in path.relative_to(package).parts or path.name == "dockercli.py":
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""\[[^\]\n]*["']docker["'],""", text), path
