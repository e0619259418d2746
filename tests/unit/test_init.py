"""``init``: the first files, never over what is there, and nothing that lets a key into git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from r1deploy.errors import ConfigError, UsageError
from r1deploy.settings import profiles, schema
from r1deploy.settings.load import from_profile, load
from r1deploy.settings.yamlfile import scalar
from r1deploy.verbs.init import IGNORED, init


@pytest.fixture
def hostfile(tmp_path: Path) -> Path:
    path = tmp_path / "hostfile.txt"
    path.write_text("10.0.0.1 slots=16 type=gpu\n10.0.0.2 slots=16 type=gpu\n")
    return path


def test_what_is_written(tmp_path: Path, hostfile: Path) -> None:
    site = tmp_path / "site"
    rows = init(site, hostfile, None)
    assert sorted(path.name for path in site.iterdir()) == [".gitignore", "inventory.ini", "r1deploy.yaml"]
    assert [row.split()[0] for row in rows] == ["wrote", "wrote", "wrote", "next:"]
    assert load(site, {}, {}).settings == from_profile(profiles.default())


def test_every_example_in_the_file_is_one_that_loads(tmp_path: Path) -> None:
    init(tmp_path, None, None)
    text = (tmp_path / "r1deploy.yaml").read_text()
    told = dict(
        line.strip().removeprefix("# example: ").split(": ", 1) for line in text.splitlines() if "# example" in line
    )
    assert {key: scalar(value) for key, value in told.items()} == {"extra": {"dtype": "bfloat16", "swap_space": 16}}
    known = {path: node.field.examples for path, node in schema.nodes().items() if node.field.examples}
    assert list(known) == [("engine", "extra")], "a new example is looked at here too"
    found = load(tmp_path, {"engine.extra": scalar(told["extra"])}, {}).settings
    assert found.engine.extra == {"dtype": "bfloat16", "swap_space": 16}


def test_the_file_says_that_the_vendor_s_spelling_is_meant(tmp_path: Path) -> None:
    init(tmp_path, None, "iluvatar-bi-v150")
    lines = (tmp_path / "r1deploy.yaml").read_text().splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.endswith("/DeeSeek-R1_INT8")]
    assert "spelt as the folder is" in lines[at - 1]


def test_git_takes_no_key(tmp_path: Path, hostfile: Path) -> None:
    """field.md 5.15: asked of git itself."""
    init(tmp_path, hostfile, None)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("key/private_key.pem", "keys/private_key.pem", "private_key.pem", ".r1deploy/inventory"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    argv = ["git", "-C", str(tmp_path), "ls-files", "--others", "--exclude-standard"]
    seen = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert sorted(seen) == [".gitignore", "hostfile.txt", "inventory.ini", "r1deploy.yaml"]


def test_nothing_is_written_over(tmp_path: Path, hostfile: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc\n/key/\n")
    (tmp_path / "r1deploy.yaml").write_text("cluster: mine\n")
    rows = init(tmp_path, hostfile, None)
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n/key/\n"
    assert (tmp_path / "r1deploy.yaml").read_text() == "cluster: mine\n"
    (told,) = [row for row in rows if row.startswith("add to")]
    assert all((line in told) == (line != "/key/") for line in IGNORED)


def test_a_hostfile_that_cannot_be_used_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, UsageError)):
        init(tmp_path / "site", tmp_path / "nowhere.txt", None)
    assert not (tmp_path / "site").exists()
