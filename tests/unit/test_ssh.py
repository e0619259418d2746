"""One login, in the words of Ansible, of OpenSSH and of fabric; and what comes over a connection."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import paramiko
import pytest
from pydantic import ValidationError

from r1deploy import connection, ssh
from r1deploy.ansible.events import Event
from r1deploy.ansible.failures import failure_of
from r1deploy.ansible.runner import LONGEST_CONTROL_FOLDER, control_folder
from r1deploy.cluster.host import Host
from r1deploy.errors import UnreachableError
from r1deploy.observe.probing import numbered
from r1deploy.session import Kept, Lines, answer_in
from r1deploy.settings import redact
from r1deploy.settings.model import Ssh

HOST = Host("node1", "10.0.0.1", 16)
SETTINGS = Ssh(user="ops", port=2222, key_file="/k/id", known_hosts="/k/known", jump="me@gate:22022", connect_timeout=7)


def login(found: dict[str, Any] | None = None, settings: Ssh = SETTINGS, host: Host = HOST) -> ssh.Login:
    """The login of a host, as Ansible's answer gives it: with our own variables in it."""
    own = ssh.login_of_all(settings).ansible()["ansible_ssh_extra_args"]
    return ssh.login_of(host, {"ansible_ssh_extra_args": own, **(found or {})}, settings)


def means(arguments: list[str], config: Path | None = None) -> dict[str, str]:
    """What OpenSSH itself makes of options."""
    argv = ["ssh", "-G", *(["-F", str(config)] if config else ["-F", "none"]), *arguments, "10.0.0.1"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An ssh_config for people at a terminal."""
    path = tmp_path / "config"
    path.write_text(
        "Host *\n  RequestTTY force\n  RemoteCommand tmux\n  StdinNull yes\n  ForkAfterAuthentication yes\n"
        "  PermitLocalCommand yes\n  LocalCommand echo hi\n  LocalForward 8080 localhost:80\n  ServerAliveInterval 0\n"
    )
    return path


def assert_quiet(found: dict[str, str]) -> None:
    assert found["requesttty"] == "false"
    assert found.get("remotecommand", "none") == "none"
    assert found["stdinnull"] == found["forkafterauthentication"] == found["permitlocalcommand"] == "no"
    assert "localforward" not in found or found["clearallforwardings"] == "yes"
    assert (found["serveraliveinterval"], found["serveralivecountmax"]) == ("5", "6")
    assert found["batchmode"] == "yes" and found["connecttimeout"] == "7"


def test_every_rendering_switches_off_what_is_for_people(hostile: Path) -> None:
    """field.md 3.3, 3.4: OpenSSH and Ansible say the same against the same ssh_config."""
    assert_quiet(means(login().options(), hostile))
    variables = login().ansible()
    words = [word for name in ("ansible_ssh_args", "ansible_ssh_extra_args") for word in shlex.split(variables[name])]
    assert_quiet(means(words, hostile))
    jump = login().jump
    assert jump is not None
    assert_quiet(means(jump.options(), hostile))


def test_ours_go_before_the_inventorys_and_the_settings_after_it() -> None:
    found = login({"ansible_ssh_common_args": "-o RequestTTY=force -o UserKnownHostsFile=/inventory"})
    said = means(found.options())
    assert (said["requesttty"], said["userknownhostsfile"]) == ("false", "/inventory")
    own = means(login().options())
    assert (own["userknownhostsfile"], own["user"], own["port"]) == ("/k/known", "ops", "2222")
    assert "gate" in own["proxycommand"] and "-W" in own["proxycommand"]
    # Extra arguments of the inventory stand in place of the settings', with Ansible as here.
    assert "proxycommand" not in means(login({"ansible_ssh_extra_args": "-C"}).options())


def test_an_option_that_this_openssh_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "QUIET", ("RequestTTY=no", "OfTheFuture=no"))
    ssh.known_options.cache_clear()
    try:
        assert ssh.known_options() == ("RequestTTY=no",)
    finally:
        monkeypatch.undo()
        ssh.known_options.cache_clear()


def test_fabric_takes_what_openssh_resolved(tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text("")
    made = login(settings=Ssh(user="ops", port=2222, known_hosts=str(known), connect_timeout=7)).fabric()
    assert (made.host, made.user, made.port, made.connect_timeout) == ("10.0.0.1", "ops", 2222, 7)
    assert not made.gateway
    assert "-W 10.0.0.1:2222" in login().fabric().gateway.replace("'", "")


def test_options_that_ssh_refuses_are_an_error_with_its_words() -> None:
    with pytest.raises(UnreachableError) as caught:
        login({"ansible_ssh_common_args": "-o Nonsense=1"}).resolved()
    assert caught.value.code == "SSH_FAILED" and "Nonsense" in " ".join(caught.value.evidence).title()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, ["-n"]),
        ({"ansible_become_password": "correct-horse"}, ["-S", "-p", "?"]),
        ({"ansible_become_pass": "correct-horse"}, ["-S", "-p", "?"]),
        ({"ansible_become": False}, None),
        ({"ansible_become": "no", "ansible_become_password": "correct-horse"}, None),
    ],
)
def test_sudo(found: dict[str, Any], words: list[str] | None) -> None:
    """field.md 2.5: a password only where sudo has a prompt to ask with; it is remembered for redaction."""
    made = login(found)
    assert made.sudo("?") == ([*ssh.SUDO.split(), *words] if words is not None else [])
    if made.password:
        assert "horse" not in redact.hide("it is correct-horse") and "horse" not in repr(made)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, "/usr/bin/python3"),
        ("auto", "/usr/bin/python3"),
        ("auto_silent", "/usr/bin/python3"),
        ("/opt/p", "/opt/p"),
    ],
)
def test_the_hosts_python(given: str | None, wanted: str) -> None:
    """field.md 3.2."""
    made = login({"ansible_python_interpreter": given} if given else {})
    done = subprocess.run(["sh", "-c", f"echo {made.python()}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == wanted
    lost = subprocess.run(
        ["/bin/sh", "-c", f"PATH=/nowhere; {made.python().replace('/usr/bin/python3', '/nowhere/python3')} -c 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    cause = failure_of(Event("failed", "probe", "Look", "node1", {"msg": lost.stderr}))
    assert given == "/opt/p" or cause.code == "PYTHON_MISSING", lost.stderr


@pytest.mark.parametrize(
    ("said", "code", "command"),
    [
        ("Host key verification failed.", "HOSTKEY_UNKNOWN", "ssh -p 2222 -i /k/id"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @",
            "HOSTKEY_CHANGED",
            "ssh-keygen -f /k/known -R '[10.9.9.9]:2222'",
        ),
        ("ops@h: Permission denied (publickey).", "SSH_AUTH", "ssh-copy-id -p 2222 -i /k/id"),
        ("connect to host: Connection timed out", "SSH_TIMEOUT", "ping 10.9.9.9"),
        ("kex_exchange_identification: read: Connection reset by peer", "SSH_DROPPED", "MaxStartups"),
        ("sudo: sorry, you must have a tty to run sudo", "SUDO_TTY", "Defaults:ops !requiretty"),
        ('unix_listener: path "/x" too long for Unix domain socket', "CONTROL_PATH", "TMPDIR"),
    ],
)
def test_advice_can_be_run_as_it_stands(said: str, code: str, command: str) -> None:
    """field.md 3.15, 6.13, 3.8: the real user, address, port and file."""
    made = login(host=Host("node1", "10.0.0.1", 16, reach="10.9.9.9"))
    found = failure_of(Event("unreachable", "probe", "Look", "node1", {"msg": said}), made)
    assert found.code == code and command in (found.fix or "")


def test_advice_goes_the_inventorys_way() -> None:
    """field.md 3.15: behind a jump host of the inventory no other line reaches the host."""
    way = ("-o", "ProxyCommand=ssh -W %h:%p gate")
    words = ssh.Login("node1", "10.0.0.1", arguments=way, known_hosts="/k").words()["ssh"]
    assert words == "ssh -o 'ProxyCommand=ssh -W %h:%p gate' -o UserKnownHostsFile=/k 10.0.0.1"


@pytest.mark.parametrize(
    ("config", "said", "wanted"),
    [
        ("HostName 10.0.0.7", "", "ssh-keygen -R 10.0.0.7"),
        ("HostName 10.0.0.7\n Port 2200", "", "ssh-keygen -R '[10.0.0.7]:2200'"),
        ("HostKeyAlias real\n Port 2200", "", "ssh-keygen -R real"),
        ("UserKnownHostsFile /site/known", "", "ssh-keygen -f /site/known -R node1"),
        ("HostName 10.0.0.7", "Host key for [gate]:22022 has changed and you have", "ssh-keygen -R '[gate]:22022'"),
        ("HostName 10.0.0.7", "Host key for [evil]:22022 has changed and you have", "ssh-keygen -R 10.0.0.7"),
    ],
)
def test_a_changed_key_is_taken_from_where_it_stands(tmp_path: Path, config: str, said: str, wanted: str) -> None:
    """field.md 6.13: the name, port and file of ssh_config; a jump host's key; never a name of the host's own words."""
    (tmp_path / "config").write_text(f"Host node1\n {config}\n")
    settings = Ssh(jump="me@gate:22022")
    made = login({"ansible_ssh_common_args": f"-F {tmp_path / 'config'}"}, settings, Host("node1", "node1", 16))
    text = f"@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n{said}"
    found = failure_of(Event("unreachable", "probe", "Look", "node1", {"msg": text}), made)
    assert found.code == "HOSTKEY_CHANGED" and f": {wanted}; then" in (found.fix or ""), found.fix


def test_a_changed_key_is_named_over_fabric_too() -> None:
    """field.md 6.13: paramiko has words of its own for it."""
    here, there = (paramiko.ECDSAKey.generate() for _ in range(2))
    found = connection.Remote(login()).failed(paramiko.BadHostKeyException("10.0.0.1", here, there))
    assert found.code == "HOSTKEY_CHANGED" and "ssh-keygen -f /k/known -R '[10.0.0.1]:2222'" in (found.fix or "")


def test_a_noisy_shell_that_breaks_rsync_has_its_name() -> None:
    """field.md 3.1."""
    rsync = {"msg": "protocol version mismatch -- is your shell clean?\n(see the rsync manpage for an explanation)"}
    found = failure_of(Event("failed", "image", "Bring", "node1", {"results": [{"failed": True, **rsync}]}), login())
    assert found.code == "SHELL_NOISY" and "ops@10.0.0.1 true" in (found.fix or "")


@pytest.mark.parametrize("jump", ["-Ffile", "-oProxyCommand=id@gate", "me@-Ffile", "gate:port"])
def test_a_jump_host_is_no_option(jump: str) -> None:
    """field.md 2.14."""
    with pytest.raises(ValidationError):
        Ssh(jump=jump)


def test_a_name_becomes_the_number_that_was_seen() -> None:
    """field.md 3.9."""
    seen: Any = type("Seen", (), {"net": type("Net", (), {"ip": "10.0.0.9"})})
    assert numbered(Host("a", "a.site", 1), seen) == Host("a", "10.0.0.9", 1, reach="a.site")
    assert numbered(HOST, seen) == HOST
    loop: Any = type("Seen", (), {"net": type("Net", (), {"ip": "127.0.1.1"})})
    assert numbered(Host("a", "a.site", 1), loop) == Host("a", "a.site", 1)


def test_control_sockets_fit_under_a_long_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 3.8."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
    assert control_folder(Path("/tmp/run")) == Path("/tmp/run/cp")
    found = control_folder(tmp_path / ("x" * 100))
    assert len(str(found)) <= LONGEST_CONTROL_FOLDER and stat.S_IMODE(found.stat().st_mode) == 0o700
    assert found.stat().st_uid == os.getuid()


def test_lines_come_whole_and_memory_stays_flat() -> None:
    """field.md 3.5: neither many bytes without an end of line nor many lines are kept."""
    taken: list[str] = []
    lines = Lines(taken.append)
    for part in (b"ein", b"s\nzw", b"ei\ndr", b"ei\xc3", b"\xbc"):
        lines.write(part)
    lines.end()
    assert taken == ["eins", "zwei", "dreiü"]
    tracemalloc.start()
    endless, kept = Lines(lambda _: None), Kept(1 << 20)
    for _ in range(1000):
        endless.write(b"x" * 65536)
        kept.write(b"x" * 65536)
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()
    assert len(kept.text) == 1 << 20


@pytest.mark.parametrize(
    ("text", "answer"),
    [('Welcome\npartialr1:{"a": 1}\nbye\n', {"a": 1}), ("Welcome\n", None), ("r1:nonsense", None), ("", None)],
)
def test_an_answer_is_what_follows_its_mark(text: str, answer: object) -> None:
    """field.md 3.1."""
    assert answer_in(text) == answer


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (EOFError(), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (OSError("Error reading SSH protocol banner"), True),
        (TimeoutError("timed out"), False),
        (ConnectionRefusedError(111, "Connection refused"), False),
    ],
)
def test_only_dropped_logins_are_tried_again(error: BaseException, again: bool) -> None:
    """field.md 3.6."""
    assert connection.dropped(error) is again
