"""What the probe makes of the engine's answers, and of this host's addresses."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from r1deploy.dockercli import SOCKET
from r1deploy.onhost import addresses, containers, enginesocket
from r1deploy.planning.observed import Engine

PODMAN = [{"Name": "Podman Engine", "Version": "4.3.1"}, {"Name": "Conmon"}]


def says(monkeypatch: pytest.MonkeyPatch, folder: Path, **info: Any) -> Engine:
    """The probe's answer where the engine says this of itself."""
    (folder / "docker.sock").touch()
    answers = {
        "/version": {"Version": "26.1.5", "Components": info.pop("components", [{"Name": "Engine"}])},
        "/info": {"DockerRootDir": str(folder), **info},
    }
    monkeypatch.setattr(enginesocket, "get", lambda path: (200, answers[path]))
    monkeypatch.setattr(enginesocket, "SOCKET", str(folder / "docker.sock"))
    return Engine.model_validate(containers.look_engine())


def test_the_probe_asks_the_engine_of_all_others() -> None:
    assert f"unix://{enginesocket.SOCKET}" == SOCKET


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["name=seccomp,profile=builtin", "name=cgroupns"], None),
        (["name=seccomp,profile=builtin", "name=userns"], "userns"),
        (["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"], "rootless"),
        (["name=apparmor", "name=selinux,profile=name=userns"], None),
        (None, None),
    ],
)
def test_isolated_engines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str] | None, wanted: str | None
) -> None:
    """field.md 4.3: found by /info, before anything is loaded."""
    found = says(monkeypatch, tmp_path, SecurityOptions=options)
    assert (found.ok, found.isolated) == (True, wanted)


def test_podman_is_no_docker_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = says(monkeypatch, tmp_path, components=PODMAN)
    assert not found.ok and "Podman" in (found.error or "")


def test_addresses_of_this_machine() -> None:
    found = addresses.own_addresses()
    assert found["127.0.0.1"] == "lo"
    assert set(found.values()) <= {name for _, name in socket.if_nameindex()}


def test_a_name_has_addresses_or_none() -> None:
    assert addresses.addresses_of("127.0.0.1") == ["127.0.0.1"]
    assert "127.0.0.1" in addresses.addresses_of("localhost")
    assert addresses.addresses_of("x" * 64 + ".invalid") == []
