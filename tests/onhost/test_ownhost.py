"""The host itself: identity, network, memory, keys."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import ownhost
from r1deploy.planning.observed import Machine, Memory
from tests.onhost.making import put


@pytest.mark.parametrize(
    ("address", "numbers", "ip", "nic"),
    [
        ("127.0.0.1", [], "127.0.0.1", "lo"),
        ("known-to-us-only.invalid", ["192.0.2.7", "127.0.0.1"], "127.0.0.1", "lo"),
        ("known-to-us-only.invalid", ["192.0.2.7"], "192.0.2.7", None),
        ("known-to-nobody.invalid", [], None, None),
    ],
)
def test_the_interface_of_an_address(address: str, numbers: list[str], ip: str | None, nic: str | None) -> None:
    """field.md 3.9: a name may be known to the controller only, which says its numbers."""
    found = ownhost.look_net({"address": address, "numbers": numbers, "ports": []})
    assert (found["ip"], found["nic"]) == (ip, nic)


def test_who_listens() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        request = {"address": "127.0.0.1", "numbers": [], "ports": [port, 1]}
        assert ownhost.look_net(request)["ports_taken"] == []
        listening.listen()
        assert ownhost.look_net(request)["ports_taken"] == [port]


def test_a_kernel_without_ipv6_has_no_table(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st\n"
    rows = "   0: 0100007F:2332 00000000:0000 0A\n   1: 0100007F:0016 0100007F:9C40 01\n"
    table = put(tmp_path / "tcp", head + rows)
    assert ownhost.listening_ports([str(table), "/no/such"]) == {9010}


def test_this_host() -> None:
    found = Machine.model_validate(ownhost.look_host())
    assert found.hostname == socket.gethostname()
    assert found.interpreter == sys.executable
    assert found.python == ".".join(map(str, sys.version_info[:3]))


def test_a_path_of_python_that_cannot_stand_in_authorized_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", '/opt/my "python"')
    assert ownhost.look_host()["interpreter"] is None


@pytest.mark.parametrize(
    ("outcome", "wanted"),
    [(0, True), (1, False), (FileNotFoundError("sudo"), False), (subprocess.TimeoutExpired("sudo", 10), False)],
    ids=["allowed", "asks for a password", "not there", "hangs"],
)
def test_sudo_without_a_password(monkeypatch: pytest.MonkeyPatch, outcome: int | Exception, wanted: bool) -> None:
    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        assert argv == ["sudo", "-n", "true"]
        if isinstance(outcome, Exception):
            raise outcome
        return subprocess.CompletedProcess(argv, outcome)

    monkeypatch.setattr(ownhost.subprocess, "run", run)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert ownhost.has_sudo() is wanted
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert ownhost.has_sudo() is True


def test_memory() -> None:
    found = Memory.model_validate(ownhost.look_memory())
    assert 0 < found.available_mib <= found.total_mib


def test_free_space_of_what_is_not_there_yet(tmp_path: Path) -> None:
    assert ownhost.free_gib(str(tmp_path / "a" / "b")) == pytest.approx(ownhost.free_gib(str(tmp_path)), rel=0.2)


def test_keys_of_sshd_and_ours_in_authorized_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "ssh_host_rsa_key.pub", "ssh-rsa AAAA root@host\n")
    put(tmp_path / "ssh_host_bad_key.pub", "# no key at all\n")
    assert ownhost.host_keys(str(tmp_path)) == ["ssh-rsa AAAA"]
    put(tmp_path / ".ssh" / "authorized_keys", "ssh-rsa BBBB me\nssh-ed25519 CCCC r1deploy:lab\nx r1deploy:lab2\n")
    monkeypatch.setattr(os.path, "expanduser", lambda name: {"~root": str(tmp_path)}[name])
    found = ownhost.look_ssh({"trust_user": "root", "cluster": "lab"})
    assert found["authorized"] == ["ssh-ed25519 CCCC r1deploy:lab"]
