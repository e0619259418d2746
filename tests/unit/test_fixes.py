"""field.md 5.11: what an error advises is done here, word for word as it is printed, and mends the fault.

A row causes a fault, reads the error's fix, takes the command (or the value) out of it and does just that: then the
same look passes. What a machine cannot do stands in ``BY_HAND``, each with the reason; a new code must choose.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from r1deploy.checkpoint.judging import manifest_of
from r1deploy.cluster import hostfile
from r1deploy.errors import ErrorCode, R1Error
from r1deploy.inputs.git import commit_of
from r1deploy.inputs.key import key_file, prove_key
from r1deploy.inputs.locking import password_file
from r1deploy.observe.context import open_context
from r1deploy.settings import lockfile
from r1deploy.settings.layers import value_from_text
from r1deploy.settings.load import load
from r1deploy.settings.model import Settings
from r1deploy.settings.secretfile import api_key
from tests.lab import test_fixes as in_the_lab
from tests.unit.fixreasons import BY_HAND, ELSEWHERE

# What another fault is called than the one that is looked for: the look itself passes.
Look = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A fault: what causes it in a folder and gives the look that raises; the command in the fix; what to type."""

    code: str
    cause: Callable[[Path], Look]
    command: str
    put: tuple[tuple[str, str], ...] = ()


def settings(folder: Path, **values: object) -> Settings:
    """The settings of a folder, with some of them given as flags: ``patch__key_dir``."""
    return load(folder, {key.replace("__", "."): value for key, value in values.items()}, {}).settings


def key_of(folder: Path, passphrase: bytes | None = None, mode: int = 0o600) -> Path:
    """A vendor's key in a folder of its own."""
    path = folder / "the key" / "private_key.pem"
    path.parent.mkdir(mode=0o700)
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = rsa.generate_private_key(65537, 4096).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how
    )
    path.write_bytes(pem)
    path.chmod(mode)
    return path


def secret(folder: Path) -> Path:
    path = folder / "the secret"
    path.write_text("word\n")
    path.chmod(0o644)
    return path


def repository(folder: Path) -> str:
    path = folder / "up stream.git"
    run(f"git init -q -b main '{path}' && git -C '{path}' commit -q --allow-empty -m one", folder)
    return str(path)


def run(command: str, folder: Path) -> str:
    """A shell in the cluster's folder, as the user has it; r1deploy is on PATH."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **{f"GIT_{who}_{what}": "r1@lab" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def locked(folder: Path, text: str) -> Look:
    (folder / "r1deploy.lock").write_text(text)
    return lambda: lockfile.read(folder / "r1deploy.lock")


def locked_in_git(folder: Path) -> Look:
    path = folder / "r1deploy.lock"
    lockfile.write(path, lockfile.Lock())
    run("git init -q . && git add r1deploy.lock && git commit -q -m one", folder)
    return locked(folder, path.read_text() + "<<<<<<< HEAD\n")


def misnamed_settings(folder: Path) -> Look:
    (folder / "r1deploy.yml").write_text("cluster: here\n")
    return lambda: load(folder, {}, {})


def bundle_gone(folder: Path) -> Look:
    (folder / ".r1deploy").mkdir()
    (folder / ".r1deploy" / "bundle").write_text(f"{folder}/gone\n")
    (folder / "inventory.ini").write_text("node1 ansible_host=10.0.0.1 slots=16\n")
    return lambda: open_context(folder, None, {})


def no_inventory(folder: Path) -> Look:
    (folder / "hosts").write_text("10.0.0.1 slots=16 type=gpu\n")
    return lambda: open_context(folder, None, {})


def bad_sums(folder: Path) -> Look:
    for name in ("config.json", "model-00001-of-00001.safetensors"):
        (folder / name).write_text("{}")
    (folder / "SHA256SUMS").write_text("not a sum\n")
    return lambda: manifest_of(settings(folder, weights__manifest=str(folder / "SHA256SUMS")))


def open_key(folder: Path) -> Look:
    key = key_of(folder, mode=0o644)
    return lambda: key_file(settings(folder, patch__key_dir=str(key.parent)))


def open_api_key(folder: Path) -> Look:
    path = secret(folder)
    return lambda: api_key(str(path))


def foreign_api_key(folder: Path) -> Look:
    path = secret(folder)
    path.write_text("clé\n", encoding="utf-8")
    path.chmod(0o600)
    return lambda: api_key(str(path))


def open_password(folder: Path) -> Look:
    path = secret(folder)
    return lambda: password_file(
        settings(folder, image__registry_user="robot", image__registry_password_file=str(path))
    )


def damaged_lock(text: str) -> Callable[[Path], Look]:
    return lambda folder: locked(folder, text)


ROWS = [
    Row("LOCK_INVALID", locked_in_git, r"git -C .* checkout -- r1deploy\.lock"),
    *(
        Row("LOCK_INVALID", damaged_lock(text), r"rm [^,]*r1deploy\.lock'?")
        for text in ("a: [", "version: 1\nversion: 1\n", "- a\n", "version: 1\nflaggems: 3\n", "version: x\n")
    ),
    Row("KEY_MODE", open_key, r"chmod 0600 .*"),
    Row("API_KEY_MISSING", open_api_key, r"chmod 0600 .*"),
    Row("API_KEY_INVALID", foreign_api_key, r"openssl rand .*"),
    Row("REGISTRY_PASSWORD", open_password, r"chmod 0600 .*"),
    Row("SETTINGS_MISSING", misnamed_settings, r"mv .*"),
    Row("BUNDLE_MISSING", bundle_gone, r"rm .*"),
    Row("INVENTORY_MISSING", no_inventory, r"r1deploy init HOSTFILE", (("HOSTFILE", "hosts"),)),
    Row("MANIFEST_INVALID", bad_sums, r"sha256sum .*"),
]  # fmt: skip


def caught(look: Look) -> R1Error:
    with pytest.raises(R1Error) as error:
        look()
    return error.value


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.code}-{number}" for number, row in enumerate(ROWS)])
def test_the_command_of_a_fix_mends_the_fault(row: Row, tmp_path: Path) -> None:
    folder = tmp_path / "my cluster"
    folder.mkdir()
    look = row.cause(folder)
    error = caught(look)
    assert error.code == row.code
    command = re.search(row.command, error.fix or "")
    assert command, error.fix
    text = command[0]
    for word, value in row.put:
        text = text.replace(word, value)
    run(text, folder)
    look()


def test_a_key_loses_its_passphrase(tmp_path: Path) -> None:
    """The passphrase is typed at openssl's own prompt; what comes out has the name that is looked for, and is 0600."""
    key = key_of(tmp_path, b"canary")
    wanted = settings(tmp_path, patch__key_dir=str(key.parent))
    error = caught(lambda: prove_key(wanted, {}))
    assert error.code == "KEY_PASSPHRASE"
    command = re.search(r"openssl .*", error.fix or "")
    assert command and "canary" not in command[0]
    shell = pexpect.spawn("sh", ["-c", command[0]], timeout=60)
    shell.expect("pass phrase")
    shell.sendline("canary")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and [path.name for path in key.parent.iterdir()] == [key.name]
    prove_key(wanted, {})


def test_the_folder_of_a_key_is_named(tmp_path: Path) -> None:
    key = key_of(tmp_path)
    error = caught(lambda: key_file(settings(tmp_path, patch__key_dir=str(key))))
    assert error.code == "KEY_NOT_FOLDER"
    line = re.search(r"patch\.key_dir: (.*)", error.fix or "")
    assert line
    assert key_file(settings(tmp_path, patch__key_dir=line[1])) == key


def test_the_nearest_key_is_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "r1deploy.yaml"
    path.write_text("engine:\n  max_num_seq: 7\n")
    error = caught(lambda: load(tmp_path, {}, {}))
    assert error.code == "SETTINGS_UNKNOWN_KEY"
    near = re.search(r"did you mean (?:engine\.)?(\w+)\?", error.message)
    assert near, error.message
    path.write_text(path.read_text().replace("max_num_seq", near[1]))
    assert load(tmp_path, {}, {}).settings.engine.max_num_seqs == 7


def test_every_setting_with_its_meaning_is_written(tmp_path: Path) -> None:
    """``r1deploy init``, which SETTINGS_UNKNOWN_KEY and SETTINGS_VALUE advise, names the key that was meant."""
    error = caught(lambda: load(tmp_path, {"engine.max_num_seqs": "x"}, {}))
    assert error.code == "SETTINGS_VALUE"
    command = re.search(r"r1deploy init\b", error.fix or "")
    assert command
    run(command[0], tmp_path)
    assert "max_num_seqs" in (tmp_path / "r1deploy.yaml").read_text()
    load(tmp_path, {}, {})


def test_the_nearest_profile_is_known(tmp_path: Path) -> None:
    error = caught(lambda: load(tmp_path, {"profile": "iluvatar-bi-v15"}, {}))
    assert error.code == "PROFILE_UNKNOWN"
    near = re.search(r"did you mean ([\w-]+)\?", error.fix or "")
    assert near, error.fix
    assert load(tmp_path, {"profile": near[1]}, {}).settings.profile == near[1]


def test_the_refs_that_git_lists_are_there(tmp_path: Path) -> None:
    url = repository(tmp_path)
    wanted = settings(tmp_path, flaggems__url=url, flaggems__ref="gone")
    error = caught(lambda: commit_of(wanted, wanted.flaggems))
    assert error.code == "GIT_REF_GONE"
    command = re.search(r"git ls-remote (?:'.*?'|\S+)", error.fix or "")
    assert command
    commit, ref = next(row.split() for row in run(command[0], tmp_path).splitlines() if "refs/heads/" in row)
    right = settings(tmp_path, flaggems__url=url, flaggems__ref=ref.removeprefix("refs/heads/"))
    assert commit_of(right, right.flaggems) == commit


def test_a_url_that_is_wrong_is_asked_by_hand(tmp_path: Path) -> None:
    """The command of GIT_MISSING names the very URL, and shows by git's own words when it is right."""
    wanted = settings(tmp_path, flaggems__url=f"{tmp_path}/up stream.git", flaggems__ref="main")
    error = caught(lambda: commit_of(wanted, wanted.flaggems))
    assert error.code == "GIT_MISSING"
    command = re.search(r"git ls-remote .*", error.fix or "")
    assert command
    with pytest.raises(AssertionError, match="does not appear to be a git repository"):
        run(command[0], tmp_path)
    repository(tmp_path)
    assert "refs/heads/main" in run(command[0], tmp_path)
    commit_of(wanted, wanted.flaggems)


HOSTFILES = {
    "HOSTFILE_EMPTY": "# nothing\n",
    "HOSTFILE_SLOTS": "10.0.0.1 slots = 16\n",
    "HOSTFILE_LINE": "10.0.0.1 slots=16 typ=gpu\n",
    "HOSTFILE_TYPE": "10.0.0.1 slots=16 type=npu\n",
    "HOSTFILE_ADDRESS": "root@10.0.0.1 slots=16 type=gpu\n",
}


@pytest.mark.parametrize("code", HOSTFILES)
def test_the_line_of_a_hostfile_that_is_advised_is_right(code: str) -> None:
    error = caught(lambda: hostfile.parse(HOSTFILES[code], "hosts"))
    assert error.code == code
    line = re.search(r"[^\s:]+ slots=.*", error.fix or "")
    assert line, error.fix
    assert [host.slots for host in hostfile.parse(line[0], "hosts")] == [16]


def test_a_missing_hostfile_is_written_as_advised(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    error = caught(lambda: hostfile.read(path))
    assert error.code == "HOSTFILE_MISSING"
    line = re.search(r"[^\s:]+ slots=.*", error.fix or "")
    assert line
    path.write_text(line[0])
    assert len(hostfile.read(path)) == 1


def cli(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "r1deploy", *argv],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_set_is_written_as_advised(tmp_path: Path) -> None:
    said = cli(tmp_path, "config", "--set", "engine.port")
    assert said.returncode == 2
    flags = re.search(r"Fix: (--set \S+=\S+)", said.stderr)
    assert flags, said.stderr
    done = cli(tmp_path, "config", *flags[1].split())
    key, value = flags[1].split()[1].split("=")
    assert done.returncode == 0 and re.search(rf"{re.escape(key)} +{value}\b", done.stdout)
    assert value_from_text(key, value) == int(value)


HERE = {
    *(row.code for row in ROWS), *HOSTFILES, "HOSTFILE_MISSING", "KEY_PASSPHRASE", "KEY_NOT_FOLDER",
    "SETTINGS_UNKNOWN_KEY", "SETTINGS_VALUE", "PROFILE_UNKNOWN", "GIT_REF_GONE", "GIT_MISSING",
}  # fmt: skip


def test_every_code_has_its_fix_run_or_says_why_a_machine_cannot() -> None:
    mended = HERE | in_the_lab.MENDED | set(ELSEWHERE)
    for place in ELSEWHERE.values():
        file, name = place.split()
        assert f"def {name}(" in (Path(__file__).parents[1] / file).read_text(), place
    assert mended & set(BY_HAND) == set()
    assert set(BY_HAND) <= set(ErrorCode) and mended <= set(ErrorCode)
    chosen = mended | set(BY_HAND)
    assert sorted(set(ErrorCode) - chosen) == [], "a test runs its fix, or BY_HAND says why a machine cannot"
