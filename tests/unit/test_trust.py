"""The forced command of the trust key: one shape of request goes through, and nothing else."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1deploy import content
from r1deploy.dockercli import SOCKET

SCRIPT = content.HELPERS / "r1trust.py"
OURS = "flagrelease_bi"
HEAD = ["docker", "exec", OURS, "/bin/bash", "-c"]
ENV = "/var/lib/r1deploy/releases/0123456789ab/config/ba9876543210/env.sh"
# What FlagScale's runner sends for a worker's Ray node: its script says
# ssh -n -p PORT ADDRESS "docker exec NAME /bin/bash -c 'BEFORE && ${ray_path} start ...'"
# and the head's shell has put ray's path in and taken the outer quotes away.
RAY = (
    f"docker exec {OURS} /bin/bash -c 'source {ENV} && /usr/local/bin/ray start --address=10.0.0.1:6379 --num-gpus=16'"
)


def load() -> ModuleType:
    loader = SourceFileLoader("r1trust", str(SCRIPT))
    module = ModuleType("r1trust")
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


parse: Callable[[str, str], list[str] | None] = load().parse


@pytest.mark.parametrize(
    "request_",
    [
        RAY,
        f"docker exec {OURS} /bin/bash -c 'source {ENV} && /usr/local/bin/ray stop'",
        f"docker exec {OURS} /bin/bash -c 'source {ENV} && true'",
        f'docker exec {OURS} /bin/bash -c "ray stop"',
        # Inside of the quotes anything may stand: it is the container's shell that reads it.
        f"docker exec {OURS} /bin/bash -c 'a; b && c | d > e; $(f) `g`'",
    ],
)
def test_accepted(request_: str) -> None:
    words = parse(request_, OURS)
    assert words is not None and words[:5] == HEAD
    assert words == shlex.split(request_)


REFUSED = {
    "nothing": "",
    "blanks": "   ",
    "a shell of the host": "/bin/bash",
    "a shell with a command": "/bin/bash -c 'id'",
    "another command": "id",
    "scp": "scp -t /root",
    "sftp": "/usr/lib/openssh/sftp-server",
    "another container": "docker exec other /bin/bash -c 'id'",
    "a longer name": f"docker exec {OURS}2 /bin/bash -c 'id'",
    "the name as an option": f"docker exec --name={OURS} /bin/bash -c 'id'",
    "another binary": f"podman exec {OURS} /bin/bash -c 'id'",
    "docker by path": f"/usr/bin/docker exec {OURS} /bin/bash -c 'id'",
    "docker run": f"docker run {OURS} /bin/bash -c 'id'",
    "docker rm": f"docker rm -f {OURS}",
    "another shell": f"docker exec {OURS} /bin/sh -c 'id'",
    "bash without path": f"docker exec {OURS} bash -c 'id'",
    "--privileged": f"docker exec --privileged {OURS} /bin/bash -c 'id'",
    "-it": f"docker exec -it {OURS} /bin/bash -c 'id'",
    "-u root": f"docker exec -u root {OURS} /bin/bash -c 'id'",
    "-H": f"docker -H tcp://1.2.3.4 exec {OURS} /bin/bash -c 'id'",
    "a variable before": f"DOCKER_HOST=tcp://1.2.3.4 docker exec {OURS} /bin/bash -c 'id'",
    "-lc": f"docker exec {OURS} /bin/bash -lc 'id'",
    "no command": f"docker exec {OURS} /bin/bash -c",
    "no quotes": f"docker exec {OURS} /bin/bash -c id",
    "semicolon": f"docker exec {OURS} /bin/bash -c 'id'; reboot",
    "semicolon that sticks": f"docker exec {OURS} /bin/bash -c 'id';reboot",
    "and": f"docker exec {OURS} /bin/bash -c 'id' && reboot",
    "pipe": f"docker exec {OURS} /bin/bash -c 'id' | sh",
    "into a file": f"docker exec {OURS} /bin/bash -c 'id' > /etc/passwd",
    "background": f"docker exec {OURS} /bin/bash -c 'id' &",
    "substitution": f"docker exec {OURS} /bin/bash -c $(reboot)",
    "substitution behind": f"docker exec {OURS} /bin/bash -c 'id'$(reboot)",
    "backticks": f"docker exec {OURS} /bin/bash -c `reboot`",
    "substitution as the name": f"docker exec $(echo {OURS}) /bin/bash -c 'id'",
    "newline": f"docker exec {OURS} /bin/bash -c 'id'\nreboot",
    "newline inside": f"docker exec {OURS} /bin/bash -c 'id\nreboot'",
    "carriage return between": f"docker exec {OURS}\r/bin/bash -c 'id'",
    "NUL": f"docker exec {OURS} /bin/bash -c 'id\0'",
    "an extra word": f"docker exec {OURS} /bin/bash -c 'id' x",
    "an empty extra word": f"docker exec {OURS} /bin/bash -c 'id' ''",
    "an open quote": f"docker exec {OURS} /bin/bash -c 'id",
    "two quotings in one word": f"docker exec {OURS} /bin/bash -c 'a'\"b\"'c'",
    "quote, semicolon, quote": f"docker exec {OURS} /bin/bash -c 'id';'reboot'",
    "a quoted command word": f"'docker' exec {OURS} /bin/bash -c 'id'",
    "a quoted name": f"docker exec '{OURS}' /bin/bash -c 'id'",
    "a backslash": f"dock\\er exec {OURS} /bin/bash -c 'id'",
    "two blanks": f"docker  exec {OURS} /bin/bash -c 'id'",
    "a blank before": f" docker exec {OURS} /bin/bash -c 'id'",
    "a comment": f"docker exec {OURS} /bin/bash -c 'id' # x",
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_refused(request_: str) -> None:
    assert parse(request_, OURS) is None


PIECES = st.sampled_from(
    [*HEAD, "'", '"', " ", "\\", ";", "&", "|", "$(", ")", "`", "\n", "\0", "#", "id", "--privileged", "-it", "é", "\t"]
)
REQUESTS = st.one_of(
    st.text(),
    st.lists(PIECES).map("".join),
    st.lists(PIECES).map(" ".join),
    st.lists(PIECES).map(lambda more: " ".join(HEAD) + " '" + "".join(more) + "'"),
    st.lists(PIECES).map(lambda more: " ".join(HEAD) + " " + "".join(more)),
)


@given(REQUESTS, st.sampled_from([OURS, "other", "a.b-c_d"]))
def test_whatever_is_accepted_is_one_bash_in_our_container(request_: str, container: str) -> None:
    words = parse(request_, container)
    if words is not None:
        assert words[:5] == ["docker", "exec", container, "/bin/bash", "-c"] and len(words) == 6
        assert "\n" not in request_ and "\0" not in request_


@given(st.text(alphabet=st.characters(exclude_characters="'\n\0", exclude_categories=["Cs"]), min_size=1))
def test_every_command_in_single_quotes_arrives_as_it_was_sent(command: str) -> None:
    assert parse(f"docker exec {OURS} /bin/bash -c '{command}'", OURS) == [*HEAD, command]


def ask(tmp_path: Path, request_: str | None) -> subprocess.CompletedProcess[str]:
    """Run the script as sshd does, with a docker that says what it got."""
    fake = tmp_path / "docker"
    fake.write_text('#!/bin/sh\nprintf "<%s>" docker "$@"; env | grep ^DOCKER_\nexit 0\n', encoding="utf-8")
    fake.chmod(0o755)
    elsewhere = {"DOCKER_HOST": "tcp://192.0.2.1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CONTEXT": "elsewhere"}
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **elsewhere} | (
        {} if request_ is None else {"SSH_ORIGINAL_COMMAND": request_}
    )
    return subprocess.run(
        [sys.executable, str(SCRIPT), OURS], env=env, capture_output=True, text=True, timeout=20, check=False
    )


def test_the_script_runs_the_words_without_a_shell(tmp_path: Path) -> None:
    """The engine of the socket runs them, whatever root's environment says (field.md 4.1)."""
    done = ask(tmp_path, f"docker exec {OURS} /bin/bash -c 'echo $(id); `reboot`'")
    words = f"<docker><--host><{SOCKET}><exec><{OURS}></bin/bash><-c><echo $(id); `reboot`>"
    assert (done.returncode, done.stdout) == (0, words)


@pytest.mark.parametrize("request_", [None, "", "id", f"docker exec -it {OURS} /bin/bash -c 'id'"])
def test_the_script_refuses_with_126_and_runs_nothing(tmp_path: Path, request_: str | None) -> None:
    done = ask(tmp_path, request_)
    assert done.returncode == 126 and done.stdout == ""
    assert "this key may only run: docker exec CONTAINER /bin/bash -c COMMAND" in done.stderr
