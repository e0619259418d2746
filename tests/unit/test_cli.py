"""The command line as a program: usage errors, JSON, encodings, readers that go away, where ``-C`` may stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1deploy.cli import main
from r1deploy.settings import load as settings_load

NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def r1(folder: Path, *argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "r1deploy", *argv],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80", "XDG_STATE_HOME": str(folder / "state"), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["nope"], "No such command 'nope'"),
        (["statsu"], "Did you mean 'status'"),
        (["plan", "--fo"], "No such option: --fo"),
        (["plan", "--set"], "requires an argument"),
        (["exec"], "Missing argument"),
        (["tunnel", "--port", "x"], "--port"),
    ],
)
def test_a_usage_error_is_one_of_ours(capsys: pytest.CaptureFixture[str], argv: list[str], word: str) -> None:
    assert main.run(argv) == 2
    said = capsys.readouterr()
    text = " ".join(said.err.split())
    assert said.out == ""
    assert text.startswith("Error: USAGE: ") and word in text and text.endswith("--help"), text


@pytest.mark.parametrize(
    ("argv", "code", "exit_code"),
    [
        (["plan", "--json", "--fo"], "USAGE", 2),
        (["status", "--json", "--watch"], "USAGE", 2),
        (["vendor", "check", "--json"], "USAGE", 2),
        (["nope", "--json"], "USAGE", 2),
        (["plan", "--json", "--set", "engine.port"], "SETTINGS_VALUE", 2),
        (["plan", "--json", "--set", "engine.prot=1"], "SETTINGS_UNKNOWN_KEY", 3),
        (["plan", "--json", "nowhere.ini"], "INVENTORY_MISSING", 2),
    ],
)
def test_json_is_one_document_also_for_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], code: str, exit_code: int
) -> None:
    """field.md 5.10."""
    assert main.run(["-C", str(tmp_path), *argv]) == exit_code
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["error"]["code"], found["error"]["exit_code"]) == (False, code, exit_code)


def test_json_of_a_bug_is_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a value nobody thought of")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(settings_load, "load", broken)
    monkeypatch.setattr("r1deploy.observe.context.load", broken)
    assert main.run(["plan", "--json", "-C", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["code"] == "BUG"
    assert "BUG" in said.err


def test_what_stands_behind_the_dashes_is_for_the_container() -> None:
    """Neither ``--json`` nor ``--upgrade`` there is ours."""
    argv = ["exec", "--", "pip", "install", "--upgrade", "--json", "x"]
    assert main.upgrade_all(argv) == argv
    assert main.ours(argv) == ["exec"]


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["plan", "--upgrade"], ["plan", "--upgrade=all"]),
        (["plan", "--upgrade", "--json"], ["plan", "--upgrade=all", "--json"]),
        (["plan", "--upgrade", "image"], ["plan", "--upgrade", "image"]),
        (["plan", "--upgrade", "inventory.ini"], ["plan", "--upgrade=all", "inventory.ini"]),
        (["plan", "--upgrade", "/etc/hosts"], ["plan", "--upgrade=all", "/etc/hosts"]),
        (["plan", "--upgrade", "nope"], ["plan", "--upgrade", "nope"]),
    ],
)
def test_upgrade_takes_a_name_or_none(argv: list[str], found: list[str]) -> None:
    assert main.upgrade_all(argv) == found


def test_a_name_that_upgrade_does_not_know_is_called_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """field.md 5.12."""
    assert main.run(["plan", "--upgrade", "nope"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'nope' is not one of" in said and "flagscale" in said
    (tmp_path / "hosts").write_text("")
    assert main.upgrade_all(["plan", "--upgrade", str(tmp_path / "hosts")])[1] == "--upgrade=all"


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, NO_UTF8], ids=["ascii", "C"])
def test_ascii_output_is_plain_text(tmp_path: Path, env: dict[str, str]) -> None:
    """field.md 5.9."""
    done = r1(tmp_path, "config", "--sources", "--set", "service.prompt=größe → 3 × 4 …", env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    if "PYTHONIOENCODING" in env:  # the arguments came as text
        assert b"gro" in done.stdout and b"e -> 3 x 4 ..." in done.stdout
    wrong = r1(tmp_path, "plan", "größe→.ini", env=env)
    assert wrong.returncode == 2 and wrong.stderr.isascii() and b"INVENTORY_MISSING" in wrong.stderr
    shown = r1(tmp_path, "--help", env=env)
    assert shown.returncode == 0 and shown.stdout.isascii()


@pytest.mark.parametrize("argv", [["config"], ["--help"], ["plan", "--json", "nowhere.ini"]], ids=" ".join)
def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path, argv: list[str]) -> None:
    """field.md 5.9: as ``| head`` does."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "r1deploy", *argv],
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
    assert list(tmp_path.iterdir()) == [], "no file for a bug"


def test_a_pipe_that_is_not_our_output_is_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError(32, "some host's connection")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("r1deploy.observe.context.load", broken)
    assert main.run(["plan", "-C", str(tmp_path)]) == 1
    assert "BUG" in capfd.readouterr().err


def test_closed_streams_are_no_bug(tmp_path: Path) -> None:
    argv = f'"{sys.executable}" -m r1deploy config >&- 2>&- <&-'
    done = subprocess.run(["sh", "-c", argv], cwd=tmp_path, check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("behind", [True, False])
def test_the_folder_stands_before_or_behind_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: bool, behind: bool
) -> None:
    """field.md 6.14."""
    (tmp_path / "r1deploy.yaml").write_text("cluster: here\n")
    folder = ["-C", str(tmp_path)]
    assert main.run([*(folder if before else []), "config", *(folder if behind else [])]) == 0
    assert capsys.readouterr().out.split()[:2] == ["cluster", "here" if before or behind else "deepseek-r1"]


def test_two_folders_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["-C", "one", "config", "-C", "two"]) == 2
    assert "which one?" in " ".join(capsys.readouterr().err.split())


def test_the_folder_before_a_verb_of_a_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["-C", "nowhere", "lock", "status", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "SETTINGS_MISSING"
