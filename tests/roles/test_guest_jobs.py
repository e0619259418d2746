"""The jobs of ``r1guest.py``, run as in a container: what they do, leave, and say when they fail."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from r1deploy import content

SCRIPT = content.HELPERS / "r1guest.py"
UNPATCH = """
import argparse, os, pathlib, stat
words = argparse.ArgumentParser()
words.add_argument("--backend", nargs="+")
for name in ("--task", "--device-type", "--commit", "--key-path"):
    words.add_argument(name)
found = words.parse_args()
print("backends", found.backend, "at", found.commit)
key = pathlib.Path(found.key_path) / "private_key.pem"
mode = stat.S_IMODE(key.parent.stat().st_mode)
tree = pathlib.Path("build") / found.device_type / pathlib.Path.cwd().name
tree.mkdir(parents=True)
(tree / "seen").write_text(f"{key.read_text()} {mode:o} {os.environ['TMPDIR']} {os.environ.get('HTTPS_PROXY')}")
(pathlib.Path(os.environ["TMPDIR"]) / "decrypted").write_text("x")
"""


@pytest.fixture(scope="module")
def guest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("r1guest", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job(name: str, order: dict[str, Any], **given: Any) -> tuple[int, dict[str, Any]]:
    """(exit code, its answer)."""
    text = base64.b64encode(json.dumps(order).encode()).decode()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), name, text], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def git(folder: Path, *words: str) -> str:
    argv = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@y", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


# Unpatch


@pytest.fixture
def order(tmp_path: Path) -> dict[str, Any]:
    """A clone with an encrypted patch and a script that unpatches it."""
    clone = tmp_path / "FlagScale"
    (clone / "tools" / "patch").mkdir(parents=True)
    (clone / "tools" / "patch" / "unpatch.py").write_text(UNPATCH)
    (clone / "a.patch.encrypted").write_text("secret")
    git(tmp_path, "init", "-q", str(clone))
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "x")
    return {
        "clone": str(clone), "root": str(tmp_path / "root"), "key": "k1", "force": False, "device_type": "BI_V150",
        "ciphertexts": {"a.patch.encrypted": hashlib.sha256(b"secret").hexdigest()},
        "commit": git(clone, "rev-parse", "HEAD"),
        "python": sys.executable, "backends": ["FlagScale", "vllm"], "task": "inference", "git_config": "/dev/null",
        "log": str(tmp_path / "log" / "unpatch.log"), "timeout": 60,
    }  # fmt: skip


def test_unpatch_with_the_key_in_memory(order: dict[str, Any]) -> None:
    code, answer = job("unpatch", order, key="THE KEY", environment={"HTTPS_PROXY": "http://proxy"})
    tree = Path(order["clone"]) / "build" / "BI_V150" / "FlagScale"
    assert (code, answer) == (0, {"changed": True, "tree": str(tree)})
    assert (tree / "seen").read_text() == f"THE KEY 700 {order['root']}/tmp http://proxy"
    assert json.loads((Path(order["root"]) / "patched.json").read_text())["key"] == "k1"
    assert not (Path(order["root"]) / "tmp").exists(), "what was decrypted there is gone"
    log = Path(order["log"]).read_text()
    assert "backends ['FlagScale', 'vllm'] at " in log and "THE KEY" not in log
    assert job("unpatch", order, key="THE KEY") == (0, {"changed": False})


def test_another_patch_than_the_locked_one(order: dict[str, Any]) -> None:
    order["ciphertexts"] = {"a.patch.encrypted": "0" * 64}
    code, answer = job("unpatch", order, key="THE KEY")
    assert code == 1 and "r1deploy.lock says 000000000000" in answer["error"]
    assert not (Path(order["clone"]) / "build").exists()
    order["ciphertexts"] = {"no.such": "0" * 64}
    assert job("unpatch", order, key="")[1]["error"] == "git show fails"


def test_an_unpatch_that_fails_leaves_no_mark(order: dict[str, Any]) -> None:
    script = Path(order["clone"]) / "tools" / "patch" / "unpatch.py"
    script.write_text("raise SystemExit('it cannot be decrypted')")
    code, answer = job("unpatch", order, key="K")
    assert code == 1 and answer["error"].endswith("exit code 1") and answer["tail"][-1] == "it cannot be decrypted"
    script.write_text("print('well done')")
    code, answer = job("unpatch", order, key="K")
    assert code == 1 and answer["error"].startswith("unpatch.py ended well but there is no ")
    assert not (Path(order["root"]) / "patched.json").exists()


# Build


def wheel_order(tmp_path: Path, *commands: str) -> dict[str, Any]:
    """Its Python makes a wheel without a build."""
    python = tmp_path / "python"
    made = f"mkdir -p {tmp_path}/wheels && touch {tmp_path}/wheels/a.whl"
    python.write_text(f'#!/bin/sh\necho "$*" "$PYTHONPATH" >> {tmp_path}/calls\n{made}\n')
    python.chmod(0o755)
    return {
        "root": str(tmp_path / "root"), "key": "k1", "force": False, "wheels": str(tmp_path / "wheels"), "timeout": 60,
        "commands": list(commands), "cwd": str(tmp_path), "source": str(tmp_path), "python": str(python),
        "log": str(tmp_path / "build.log"),
    }  # fmt: skip


def test_build(tmp_path: Path) -> None:
    order = wheel_order(tmp_path, "echo one >> said", "echo two >> said")
    assert job("build", order) == (0, {"changed": True, "wheel": "a.whl"})
    assert (tmp_path / "said").read_text() == "one\ntwo\n"
    assert f"pip wheel {tmp_path} --no-build-isolation --no-deps" in (tmp_path / "calls").read_text()
    assert job("build", order) == (0, {"changed": False})
    assert job("build", {**order, "key": "k2"})[1]["changed"] is True


def test_a_build_that_fails_is_not_marked(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "manifest.json").write_text("of the former build")
    code, answer = job("build", wheel_order(tmp_path, "echo no compiler; exit 2", "touch never"))
    assert (code, answer["error"], answer["tail"][-1]) == (
        1,
        "bash -c echo no compiler; exit 2: exit code 2",
        "no compiler",
    )
    assert not (tmp_path / "never").exists() and list((tmp_path / "root").glob("*.json")) == []


# What they are made of


def test_a_command_and_its_children_end_with_the_time_out(guest: ModuleType, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    began = time.monotonic()
    with pytest.raises(guest.JobError, match="sh: not done after 1 s"):
        guest.run(["sh", "-c", f"sleep 300 & echo $! > {tmp_path}/pid; wait"], log, timeout=1)
    assert time.monotonic() - began < 5
    pid = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_command_that_was_killed(guest: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(guest.JobError, match=r"ended by signal 9 \(killed: out of memory\?\)"):
        guest.run(["sh", "-c", "kill -9 $$"], str(tmp_path / "log"))
    with pytest.raises(guest.JobError, match=r"exit code 137 \(killed: out of memory\?\)"):
        guest.run(["sh", "-c", "exit 137"], str(tmp_path / "log"))


def test_the_folder_without_the_right_to_mount(guest: ModuleType) -> None:
    with guest.watched_folder() as folder:
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert not Path(folder).exists()


def test_the_folder_is_gone_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import r1guest\n"
        "with r1guest.watched_folder() as path:\n"
        "    print(path, flush=True); sys.stdin.read()\n"
    )
    argv = [sys.executable, "-B", "-c", code, str(content.HELPERS)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.kill()
    until = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_installed_distribution_is_known_by_its_record(guest: ModuleType) -> None:
    version, proof = guest.proof_of("pytest")
    assert version == pytest.__version__ and all(path.endswith("RECORD") for path in proof)
    assert guest.intact({"proof": proof}) and not guest.intact({"proof": {}})
    assert not guest.intact({"proof": dict.fromkeys(proof, "0" * 64)})
    assert not guest.intact({"proof": {"/no/such": "0" * 64}})
    with pytest.raises(guest.JobError, match="no-such-dist is not installed after its installation"):
        guest.proof_of("no-such-dist")


def test_a_part_is_due_where_its_tree_or_its_files_changed(guest: ModuleType) -> None:
    held = {"tree": "t1", "proof": guest.proof_of("pytest")[1]}
    record = {"parts": {"vllm": held}}
    assert not guest.part_due(record, {"name": "vllm", "tree": "t1"})
    assert guest.part_due(record, {"name": "vllm", "tree": "t2"})
    assert guest.part_due(record, {"name": "flagscale", "tree": "t1"})


def test_the_image_s_own_part_is_verified_by_import(guest: ModuleType, tmp_path: Path) -> None:
    order = {"python": sys.executable, "timeout": 60, "log": str(tmp_path / "log")}
    part = {"dist": "pytest", "tree": "t", "commands": [], "modules": ["pytest"]}
    found = guest.install_part(part, order)
    assert (found["tree"], found["version"]) == ("t", pytest.__version__) and guest.intact(found)
    with pytest.raises(guest.JobError, match="import no_such_module fails") as error:
        guest.install_part({**part, "modules": ["no_such_module"]}, order)
    assert error.value.tail[-1] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert guest.imports(order, "json") and not guest.imports(order, "no_such_module")
    (tmp_path / "wheels").mkdir()
    with pytest.raises(guest.JobError, match=r"expected one wheel in .*, found 0"):
        guest.install_part({**part, "wheels": str(tmp_path / "wheels")}, order)


@pytest.mark.parametrize(
    ("table", "fits"),
    [
        ("Driver Version: 4.1.0   CUDA Version: 10.2", True),
        ("Driver Version: 4.1.0   CUDA Version: N/A", False),
        ("?", False),
    ],
)
def test_an_image_that_does_not_fit_the_driver(guest: ModuleType, tmp_path: Path, table: str, fits: bool) -> None:
    tool = tmp_path / "smi"
    tool.write_text(f"#!/bin/sh\necho '{table}'\n")
    tool.chmod(0o755)
    pattern = r"Driver Version: (\S+)\s+CUDA Version: (\S+)"
    order = {"smi": ["/no/such", str(tool)], "smi_env": {}, "smi_version_pattern": pattern}
    guest.check_driver({**order, "smi": ["/no/such"]})
    if fits:
        guest.check_driver(order)
        return
    with pytest.raises(guest.JobError, match="the image does not fit the host's driver") as error:
        guest.check_driver(order)
    assert error.value.tail == [table]


def test_one_run_of_a_job_at_a_time(guest: ModuleType, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import r1guest\n"
        "with r1guest.only_one(sys.argv[2]): print('in', flush=True)\n"
    )
    with guest.only_one(str(tmp_path / "job")):
        argv = [sys.executable, "-B", "-c", code, str(content.HELPERS), str(tmp_path / "job")]
        other = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
    assert other.communicate(timeout=10)[0] == "in\n"
    assert os.stat(tmp_path / "job").st_mode & 0o777 == 0o700
