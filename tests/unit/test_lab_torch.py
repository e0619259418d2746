"""What the lab brings for ``diag``: PyTorch for the share, chips that can err, a FlagGems that can be broken."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from r1deploy.lab import labcluster, torchshare
from r1deploy.lab.places import standins

MM = {"mm", "mm_out"}


def test_the_share_gets_what_the_wheels_install(tmp_path: Path) -> None:
    names = ("torch/__init__.py", "torch/bin/torch_shm_manager", "torch/bin/test_api", "torch/bin/TCPStoreTest",
             "torch/include/a/b.h", "torch/test/x.py", "torch/testing/y.py", "torch-2.dist-info/RECORD")  # fmt: skip
    wheel = tmp_path / "torch-2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as members:
        for name in names:
            members.writestr(name, f"of {name}")
    packed = io.BytesIO()
    torchshare.pack([wheel], packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        modes = {entry.name: entry.mode for entry in archive.getmembers()}
        init = archive.extractfile("torch/__init__.py")
        assert init is not None and init.read() == b"of torch/__init__.py"
    assert modes == {
        "torch/__init__.py": 0o644,
        "torch/bin/torch_shm_manager": 0o755,
        "torch/testing/y.py": 0o644,
        "torch-2.dist-info/RECORD": 0o644,
        "sitecustomize.py": 0o644,
        "triton/__init__.py": 0o644,
    }


TORCH = """
class Tensor(list):
    def element_size(self):
        return 2
    def view(self, *_):
        return self

def mm(one, other):
    return Tensor([one * other, 7])

class cpu:
    device_count = staticmethod(lambda: 1)

int16 = int32 = None
"""
# As diag does: processes that are started one after the other, and multiply when all are there.
CHIPS = """
import json, os, sys, torch
pipes = []
gate, go = os.pipe()
for chip in range(torch.cpu.device_count()):
    reading, writing = os.pipe()
    if not os.fork():
        os.read(gate, 1)
        os.write(writing, json.dumps([torch.mm(2, 3)[0] for _ in range(4)]).encode())
        os._exit(0)
    pipes.append(reading)
os.write(go, b"x" * len(pipes))
print(json.dumps([json.loads(os.read(reading, 999)) for reading in pipes]))
"""
TOLD = [
    ({"chips": 2, "wrong": [], "once_in": 1}, [[6] * 4] * 2),
    ({"chips": 3, "wrong": [1], "once_in": 1}, [[6] * 4, [7] * 4, [6] * 4]),
    ({"chips": 2, "wrong": [0], "once_in": 2}, [[6, 7, 6, 7], [6] * 4]),
    (None, [[6] * 4]),
]


@pytest.mark.parametrize(("told", "products"), TOLD, ids=["right", "wrong", "unsteady", "untold"])
def test_chips_of_a_host_compute_as_they_are_told(tmp_path: Path, told: Any, products: Any) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    if told is not None:
        (tmp_path / "told.json").write_text(json.dumps(told))
    path = f"{standins() / 'torch'}{os.pathsep}{tmp_path}"
    environment = {"PYTHONPATH": path, "PATH": os.environ["PATH"], "R1LAB_TORCH": str(tmp_path / "told.json")}
    done = subprocess.run([sys.executable, "-c", CHIPS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == products


class Kernel:
    """PyTorch's own: says what it is asked."""

    def __init__(self, name: str, key: str) -> None:
        assert name.startswith("aten::") and key == "CPU"
        self.name = name.removeprefix("aten::")

    def call_boxed(self, _key: object, *args: Any, **options: Any) -> Any:
        return Answer((self.name, args, options))


class Answer(tuple[Any, ...]):
    def mul_(self, number: float) -> tuple[Any, float]:
        return tuple(self), number


class Tensor:
    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


def fake_torch() -> ModuleType:
    """As much of torch as the stand-in asks for."""
    torch = ModuleType("torch")
    registered: dict[str, Callable[..., Any]] = {}

    class Library:
        def __init__(self, *where: str) -> None:
            assert where == ("aten", "IMPL")

        def impl(self, name: str, function: Callable[..., Any], key: str) -> None:
            assert key == "CPU" and name not in registered
            registered[name] = function

    vars(torch).update(
        library=SimpleNamespace(Library=Library, get_kernel=Kernel),
        _C=SimpleNamespace(DispatchKeySet=str, DispatchKey=SimpleNamespace(CPU="CPU")),
        Tensor=Tensor,
        tensor=lambda number: ("tensor", number),
        float64="fp64",
        bool="bool",
        registered=registered,
    )
    return torch


@pytest.fixture
def gems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Imports the stand-in FlagGems, with a torch or without."""
    monkeypatch.syspath_prepend(str(standins() / "flaggems" / "src"))
    monkeypatch.setenv("R1LAB_FLAGGEMS", str(tmp_path / "told.json"))

    def load(torch: ModuleType | None = None, **told: Any) -> Any:
        (tmp_path / "told.json").write_text(json.dumps(told))
        monkeypatch.setitem(sys.modules, "torch", torch)  # None: as if it were not there
        return importlib.import_module("flag_gems")

    yield load
    for name in ("flag_gems", "flag_gems.faults"):
        sys.modules.pop(name, None)


def test_flaggems_without_torch_is_what_it_was(gems: Callable[..., Any]) -> None:
    found = gems()
    assert found.aten_lib is None and found.enable() is True and found.__version__ == "2.1"


def test_flaggems_registers_what_it_is_not_told_to_leave(gems: Callable[..., Any], tmp_path: Path) -> None:
    torch = fake_torch()
    found = gems(torch)
    seen: list[tuple[str, str]] = []

    class Ours:
        def impl(self, name: str, function: Any, key: str) -> None:
            seen.append((name, function.__name__))
            torch.registered[name] = function

    found.enable(lib=Ours(), unused=["addmm", "addmm_out"], record=True, once=True, path=str(tmp_path / "calls"))
    assert dict(seen) == {name: to for name, to in found.OPERATORS.items() if not to.startswith("addmm")}
    two = (Tensor("bf16"), 0.3)
    assert torch.registered["mul.Tensor"](*two) == ("mul.Tensor", (two[0], ("tensor", 0.3)), {})
    assert torch.registered["arange"](3, device="cpu") == ("arange", (3,), {"device": "cpu"})
    torch.registered["arange"](3)
    assert (tmp_path / "calls").read_text().splitlines() == [
        "[DEBUG] flag_gems.ops.mul: GEMS MUL", "[DEBUG] flag_gems.ops.arange: GEMS ARANGE",
    ]  # fmt: skip


FAILS = [
    ("arg_defaults", AttributeError, "'JITFunction' object has no attribute 'arg_defaults'", "silu", "zeros"),
    ("arguments", TypeError, r"exactly 25 arguments \(21 given\)", "mm.out", "addmm"),
]


@pytest.mark.parametrize(("fault", "kind", "words", "broken", "well"), FAILS, ids=[row[0] for row in FAILS])
def test_flaggems_fails_as_it_is_told(
    gems: Callable[..., Any], fault: str, kind: type[Exception], words: str, broken: str, well: str
) -> None:
    torch = fake_torch()
    gems(torch, fault=fault).enable()
    with pytest.raises(kind, match=words):
        torch.registered[broken](Tensor("bf16"))
    assert torch.registered[well](Tensor("bf16"))[0] == well
    for judges in ("fp64", "bool"):
        assert torch.registered[broken](Tensor(judges))[0] == broken, "the CPU is the judge too"


def test_flaggems_asserts_after_some_calls_and_for_ever(gems: Callable[..., Any]) -> None:
    torch = fake_torch()
    gems(torch, fault="assert", after=2).enable()
    for _ in range(2):
        torch.registered["mm"](Tensor("fp32"))
    for name in ("mm", "silu", "mm"):
        with pytest.raises(RuntimeError, match="device-side assert triggered"):
            torch.registered[name](Tensor("fp32"))


def test_flaggems_is_inexact_in_what_is_named(gems: Callable[..., Any]) -> None:
    torch = fake_torch()
    gems(torch, fault="wrong", functions=["bmm"]).enable()
    assert torch.registered["bmm"](Tensor("fp32"))[1] == 1.03
    assert torch.registered["addmm"](Tensor("fp32"))[0] == "addmm"


def test_the_lab_tells_faults_that_there_are(gems: Callable[..., Any]) -> None:
    """What ``Lab.set_flaggems`` takes is what the stand-in knows."""
    gems()
    faults = importlib.import_module("flag_gems.faults")
    assert set(labcluster.GEMS_FAULTS) == set(faults.AT_FAULT) == set(faults.BROKEN)
    assert labcluster.FLAGGEMS_FILE == faults.CONTROL
    assert {name for name in ("mm", "mm_out", "addmm") if faults.AT_FAULT["arguments"](name)} == MM
    assert labcluster.TORCH_FILE in (standins() / "torch" / "sitecustomize.py").read_text()
