"""The job ``install`` proves FlagGems by what it computes: with the package that the role sends, before the record."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from r1deploy import content, shipping
from r1deploy.ansible.events import Event
from r1deploy.ansible.failures import LONGEST, failure_of
from tests.roles.test_guest_jobs import guest

__all__ = ["guest"]
PACKAGE = {path.name: path.read_text(encoding="utf-8") for path in shipping.PACKAGE.glob("*.py")}
# PyTorch as far as the proof goes before an operator's inputs; there it fails as a Triton that does not fit does.
TORCH = """
import os, time
class Generator:
    def manual_seed(self, seed):
        raise AttributeError("'JITFunction' object has no attribute 'arg_defaults'")
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: int(os.environ["CHIPS"]) or time.sleep(60))
device = lambda kind, number: kind
set_num_threads = set_grad_enabled = lambda number: None
bfloat16 = float32 = None
__version__ = "2.11"
"""
Installing = tuple[ModuleType, dict[str, Any], dict[str, Any]]


@pytest.fixture
def installing(guest: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installing]:
    """The script with a record of its own; an order to install two parts that are here; what follows it."""
    monkeypatch.setattr(guest, "RECORD", str(tmp_path / "installed.json"))
    monkeypatch.setattr(guest, "only_one", lambda _: contextlib.nullcontext())
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "flag_gems.py").write_text("__version__ = '2.2'\n")
    one = {"name": "flaggems", "dist": "pytest", "tree": "t", "commands": [], "modules": ["json"], "computes": True}
    order = {
        "parts": [one, {**one, "name": "vllm", "computes": False}], "imports": [], "smi": [], "timeout": 60,
        "python": sys.executable, "log": str(tmp_path / "log" / "install.log"),
    }  # fmt: skip
    environment = {"PYTHONPATH": str(tmp_path / "image"), "CHIPS": "2"}
    asked = {"package": PACKAGE, "order": {"device": "cuda", "deadline": 30}, "environment": environment}
    yield guest, order, {"kernels": asked}


def parts(guest: ModuleType) -> list[str]:
    return sorted(json.loads(Path(guest.RECORD).read_text())["parts"])


def test_a_broken_flaggems_is_not_recorded(installing: Installing, tmp_path: Path) -> None:
    guest, order, given = installing
    (tmp_path / "image" / "torch.py").write_text(TORCH)
    with pytest.raises(guest.JobError) as caught:
        guest.install(order, given)
    said = str(caught.value).splitlines()
    assert said == [
        "FlagGems does not compute right: 8 operators: 'JITFunction' object has no attribute 'arg_defaults'",
        "torch 2.11, triton (none), flag_gems 2.2",
    ]
    assert parts(guest) == ["vllm"] and guest.install_due(order), "the next run proves it again"
    assert Path(order["log"]).read_text().count('"verdict":"failed"') == 8 * 4
    job = json.dumps({"error": str(caught.value), "tail": []})
    found = failure_of(Event("failed", "install", "Run the job install", "node1", {"msg": job}))
    assert (found.code, found.message, found.evidence) == ("KERNELS_BROKEN", said[0], tuple(said))
    assert "r1deploy diag kernels" in (found.fix or "")


def test_without_pytorch_the_import_is_the_proof(installing: Installing) -> None:
    guest, order, given = installing
    answer = guest.install(order, given)
    said = "kernels: not checked here, FlagGems was imported only: ModuleNotFoundError: No module named 'torch'"
    assert answer == {"changed": True, "parts": ["flaggems", "vllm", "imports"], "kernels": said}
    assert Path(order["log"]).read_text().splitlines()[-1] == said
    assert parts(guest) == ["flaggems", "vllm"]


def test_what_is_installed_is_not_proven_again(installing: Installing) -> None:
    guest, order, given = installing
    guest.install(order, given)
    before = Path(order["log"]).read_text()
    assert guest.install(order, {}) == {"changed": False, "parts": [], "kernels": ""}
    assert Path(order["log"]).read_text() == before
    order["parts"][1]["tree"] = "another"
    assert guest.install(order, {}) == {"changed": True, "parts": ["vllm", "imports"], "kernels": ""}


def test_chips_that_do_not_answer_end_with_the_deadline(installing: Installing, tmp_path: Path) -> None:
    guest, order, given = installing
    (tmp_path / "image" / "torch.py").write_text(TORCH)
    given["kernels"]["environment"]["CHIPS"] = "0"
    given["kernels"]["order"]["deadline"] = 1
    with pytest.raises(guest.JobError, match=r"a look at the chips: no end within 1 s"):
        guest.install(order, given)
    assert parts(guest) == ["vllm"]


def test_a_proof_that_cannot_run_is_no_proof(installing: Installing) -> None:
    guest, order, given = installing
    given["kernels"]["package"] = {"__init__.py": ""}
    with pytest.raises(guest.JobError, match=r"onhost\.firstkernels.*: exit code 1") as caught:
        guest.install(order, given)
    assert any("No module named onhost.firstkernels" in line for line in caught.value.tail)
    assert parts(guest) == ["vllm"]


def test_the_role_sends_the_package_that_is_in_the_collection(tmp_path: Path) -> None:
    """As Ansible reads it: whole files, by name; the role that reads it need not be the role that says it."""
    tasks = yaml.safe_load((content.ROLES / "install" / "tasks" / "main.yml").read_text(encoding="utf-8"))
    asked = next(row for row in tasks if "ansible.builtin.include_role" in row)["vars"]
    names = {name: asked[name] for name in ("guest_given", "__install_files")}
    given = {"install_torch_device": "npu", "install_operator_seconds": 7, "install_env": {"A": "b"}}
    copy = {"dest": str(tmp_path / "given.json"), "content": "{{ guest_given | to_json }}"}
    play = {
        "hosts": "localhost", "gather_facts": False, "vars": {**given, **names},
        "tasks": [{"ansible.builtin.copy": copy, "vars": {"role_path": str(content.ROLES / "guest")}}],
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-c", "local", str(tmp_path / "play.yml")]
    python = {"ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_LOCAL_TEMP": str(tmp_path)}
    env = {**os.environ, **python, "ANSIBLE_REMOTE_TEMP": str(tmp_path), "ANSIBLE_HOME": str(tmp_path)}
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kernels = json.loads((tmp_path / "given.json").read_text(encoding="utf-8"))["kernels"]
    assert kernels["package"] == PACKAGE
    assert (kernels["order"], kernels["environment"]) == ({"device": "npu", "deadline": 7}, {"A": "b"})


def test_a_finding_that_is_long_is_cut_at_a_word() -> None:
    said = "FlagGems does not compute right: " + " ".join(f"word{number:03d}" for number in range(100))
    found = failure_of(Event("failed", "install", "Run the job install", "node1", {"msg": said}))
    assert found.message.endswith(" …") and len(found.message) <= LONGEST + 50
