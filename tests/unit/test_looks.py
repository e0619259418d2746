"""The probe through OpenSSH: what a host, its shell and OpenSSH itself may do, each with its name.

``ssh`` is a program of the test's here that runs the command on this machine, or says what the real one says.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from r1deploy.ansible.failures import Failure
from r1deploy.observe import looks
from r1deploy.observe.looks import look_at
from r1deploy.ssh import Login

HERE = 'for word; do command=$word; done\nexec sh -c "$command"'
REQUEST = {"limit": 1 << 16}


class Ssh:
    """What ``ssh`` does; ``python`` is what stands in place of the host's Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.does(HERE)
        self.python("cat > /dev/null; echo 'r1probe:{\"schema\": 1}'")

    def does(self, script: str) -> None:
        self._write("ssh", script)

    def python(self, script: str) -> None:
        self._write("hostpython", script)

    def _write(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)

    def login(self, name: str = "node1", **more: Any) -> Login:
        return Login(name, name, user="root", become=False, interpreter=str(self.folder / "hostpython"), **more)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("r1deploy.ssh.known_options", lambda: ())
    return Ssh(tmp_path)


def failure(answer: object) -> Failure:
    assert isinstance(answer, Failure), answer
    return answer


def test_an_answer_is_read_behind_what_a_noisy_shell_says(ssh: Ssh) -> None:
    ssh.does("echo Welcome; echo warning >&2\n" + HERE)
    ssh.python("cat > /dev/null; echo noise; echo 'r1probe:{\"schema\": 1}'")
    assert look_at([ssh.login()], REQUEST) == {"node1": {"schema": 1}}


def test_the_real_probe_answers(ssh: Ssh) -> None:
    """The archive and the order go in on standard input, to a Python of this machine."""
    ssh.python(f'exec {sys.executable} "$@"')
    (answer,) = look_at([ssh.login()], {"limit": 1 << 20, "seconds": 20, "state_dir": "/none"}).values()
    assert isinstance(answer, dict)
    assert answer["schema"] == 1
    assert answer["memory"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("root@node1: Permission denied (publickey).", "SSH_AUTH"),
        ("ssh: connect to host node1 port 22: Connection refused", "SSH_REFUSED"),
        ("ssh: connect to host node1 port 22: Connection timed out", "SSH_TIMEOUT"),
        ("Host key verification failed.", "HOSTKEY_UNKNOWN"),
        ("kex_exchange_identification: Connection closed by remote host", "SSH_DROPPED"),
        ("something new", "SSH_FAILED"),
    ],
)
def test_openssh_s_own_failures_have_their_cause(ssh: Ssh, said: str, code: str) -> None:
    ssh.does(f"echo '{said}' >&2; exit 255")
    found = failure(look_at([ssh.login()], REQUEST)["node1"])
    assert (found.code, found.unreachable) == (code, True)
    assert said in (found.message, *found.evidence)


def test_the_jump_host_s_own_words_are_not_the_host_s(ssh: Ssh) -> None:
    """They are asked for by themselves: here the host counts as one whose login was dropped on the way."""
    ssh.does(
        "echo 'root@jump: Permission denied (publickey).' >&2\n"
        "echo 'kex_exchange_identification: Connection closed by remote host' >&2\n"
        "echo 'Connection closed by UNKNOWN port 65535' >&2; exit 255"
    )
    assert failure(look_at([ssh.login(jump=Login("jump", "jump"))], REQUEST)["node1"]).code == "SSH_DROPPED"
    assert failure(look_at([ssh.login()], REQUEST)["node1"]).code == "SSH_AUTH"


def test_a_link_that_goes_down_in_the_middle_is_no_answer_of_the_host(ssh: Ssh) -> None:
    ssh.does(HERE.replace("exec ", "") + "\necho 'Timeout, server node1 not responding.' >&2; exit 255")
    ssh.python("cat > /dev/null")
    found = failure(look_at([ssh.login()], REQUEST)["node1"])
    assert (found.code, found.unreachable) == ("SSH_TIMEOUT", True)


def test_a_shell_that_ends_at_once_is_named(ssh: Ssh) -> None:
    ssh.does("echo This account is not available.; exit 1")
    found = failure(look_at([ssh.login()], REQUEST)["node1"])
    assert (found.code, found.evidence) == ("SHELL_ENDS", ("This account is not available.",))


def test_a_host_without_python_is_named(ssh: Ssh) -> None:
    login = Login("node1", "node1", user="root", become=False, interpreter="/opt/none/python3")
    assert failure(look_at([login], REQUEST)["node1"]).code == "PYTHON_MISSING"


def test_no_answer_comes_with_what_was_said(ssh: Ssh) -> None:
    ssh.python("cat > /dev/null; echo Traceback >&2; echo 'KeyError: x' >&2; exit 1")
    found = failure(look_at([ssh.login()], REQUEST)["node1"])
    assert (found.code, found.unreachable) == ("STEP_FAILED", False)
    assert found.evidence == ("Traceback", "KeyError: x")


def test_an_answer_that_is_no_json_is_none(ssh: Ssh) -> None:
    ssh.python("cat > /dev/null; echo 'r1probe:{\"schema\"'")
    assert "no JSON" in failure(look_at([ssh.login()], REQUEST)["node1"]).message


def test_an_answer_without_end_is_cut(ssh: Ssh) -> None:
    ssh.python("cat > /dev/null; exec yes")
    assert "more than" in failure(look_at([ssh.login()], REQUEST)["node1"]).message


def test_a_host_that_keeps_the_line_open_has_its_time_only(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "LONGEST_SECONDS", 0.2)
    ssh.python("exec sleep 300")
    assert failure(look_at([ssh.login()], REQUEST)["node1"]).code == "SSH_TIMEOUT"


def test_one_host_s_failure_is_not_the_others(ssh: Ssh) -> None:
    ssh.does('case "$*" in *node2*) echo "Connection refused" >&2; exit 255;; esac\n' + HERE)
    answers = look_at([ssh.login(f"node{number}") for number in (1, 2, 3)], REQUEST)
    assert (answers["node1"], answers["node3"]) == ({"schema": 1}, {"schema": 1})
    assert failure(answers["node2"]).code == "SSH_REFUSED"


def test_no_more_than_so_many_at_once(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "AT_ONCE", 3)
    count = f"""
cat > /dev/null
mkdir {ssh.folder}/at.$$
ls -d {ssh.folder}/at.* | wc -l >> {ssh.folder}/counts
sleep 0.2
rmdir {ssh.folder}/at.$$
echo 'r1probe:{{}}'"""
    ssh.python(count)
    answers = look_at([ssh.login(f"node{number}") for number in range(12)], REQUEST)
    assert len(answers) == 12
    assert 1 < max(map(int, (ssh.folder / "counts").read_text().split())) <= 3


def test_what_ends_the_look_ends_its_processes(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Ctrl-C: the thread that waits raises, the processes of ssh are gone."""
    ssh.does(f"echo $$ > {ssh.folder}/pid\n{HERE}")
    ssh.python("exec cat")

    def stopped(*_: object) -> None:
        while not (ssh.folder / "pid").exists() or not (ssh.folder / "pid").read_text().strip():
            time.sleep(0.01)
        raise KeyboardInterrupt

    threads: list[threading.Thread] = []

    def begun(works: dict[str, Any], at_once: int) -> None:
        threads.extend(threading.Thread(target=work, daemon=True) for work in works.values())
        for thread in threads:
            thread.start()
        stopped()

    monkeypatch.setattr(looks, "together", begun)
    with pytest.raises(KeyboardInterrupt):
        look_at([ssh.login()], REQUEST)
    pid = int((ssh.folder / "pid").read_text())
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
