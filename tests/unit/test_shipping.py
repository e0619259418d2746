"""What goes to the hosts: one archive over standard input, run by the loader without a file."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from r1deploy import shipping


def sent(
    module: shipping.Script, order: dict[str, object], more: bytes = b"", python: str = sys.executable
) -> tuple[int, str]:
    """Run a module as a host does; its exit code and what it printed."""
    done = subprocess.run(
        shlex.split(shipping.command(python, module)),
        input=shipping.parcel(order) + more,
        capture_output=True,
        cwd="/",
        env={},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def test_a_module_runs_from_the_archive(tmp_path: Path) -> None:
    code, said = sent("holder", {"op": "release", "path": str(tmp_path / "none.lock")})
    assert (code, "released" in said) == (0, True), said
    assert list(tmp_path.iterdir()) == []


def test_without_files_in_memory_it_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python that was built against an old libc has no memfd_create."""
    monkeypatch.setattr(shipping, "LOADER", "import os\ndel os.memfd_create\n" + shipping.LOADER)
    code, said = sent("holder", {"op": "release", "path": str(tmp_path / "none.lock")})
    assert (code, "released" in said) == (0, True), said


def test_what_follows_the_order_is_the_module_s_to_read(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    order = {"op": "hold", "path": str(path), "silence": 20, "info": {"who": "me"}}
    code, said = sent("holder", order, b"step one\ndone\n")
    assert code == 0, said
    answers = [json.loads(line[line.index("{") :]) for line in said.splitlines()]
    assert answers == [{"ok": True}] * 3


def test_nothing_of_an_order_is_in_the_arguments() -> None:
    assert "secret" not in shipping.command("python3", "holder")
    assert b"secret" in shipping.parcel({"word": "secret"})


def test_the_digest_is_that_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shipping.digest()
    for path in shipping.PACKAGE.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(shipping, "PACKAGE", tmp_path)
    try:
        shipping.archive.cache_clear()
        assert shipping.digest() == before
        (tmp_path / "holder.py").write_text("x = 1\n")
        shipping.archive.cache_clear()
        assert shipping.digest() != before
    finally:
        shipping.archive.cache_clear()
