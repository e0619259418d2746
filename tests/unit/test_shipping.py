"""What goes to the hosts: one archive over standard input, run by the loader without a file."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import pytest

from r1deploy import shipping


def sent(
    module: shipping.Script, order: dict[str, object], more: bytes = b"", python: str = sys.executable
) -> tuple[int, str]:
    """Run a module as a host does; its exit code and what it printed."""
    done = subprocess.run(
        shlex.split(shipping.command(python, module)),
        input=shipping.parcel(module, order) + more,
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
    assert b"secret" in shipping.parcel("holder", {"word": "secret"})


@pytest.mark.parametrize("module", get_args(shipping.Script))
def test_a_module_finds_in_its_archive_all_that_it_imports(module: str, tmp_path: Path) -> None:
    """Every module of the archive is imported there, and the archive has no other one."""
    path = tmp_path / "archive.zip"
    path.write_bytes(shipping.archive(module))  # type: ignore[arg-type]
    with zipfile.ZipFile(path) as members:
        names = sorted(Path(name).stem for name in members.namelist())
    code = (
        f"import sys; sys.path.insert(0, {str(path)!r}); import importlib\n"
        f"importlib.import_module('onhost.{module}')\n"
        "print(sorted(name.partition('.')[2] or '__init__' for name in sys.modules if name.startswith('onhost')))"
    )
    argv = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ast.literal_eval(done.stdout) == names


def test_what_is_not_imported_does_not_travel() -> None:
    everything = {path.stem for path in shipping.PACKAGE.glob("*.py")}
    assert shipping.needed("holder") < everything
    assert "kernels" not in shipping.needed("probe")


def test_an_archive_is_the_same_for_the_same_sources_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shipping.archive("holder")
    for path in shipping.PACKAGE.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(shipping, "PACKAGE", tmp_path)
    try:
        shipping.archive.cache_clear()
        assert shipping.archive("holder") == before
        (tmp_path / "private.py").write_text("x = 1\n")
        shipping.archive.cache_clear()
        assert shipping.archive("holder") != before
    finally:
        shipping.archive.cache_clear()
