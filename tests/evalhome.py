"""evalscope's environment for tests: installed once on a machine, then shared by all of them and by all workers."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from r1deploy.assurance import evalinstall
from r1deploy.assurance.evalhome import environment_folder, home


@pytest.fixture(scope="session")
def evalscope() -> Path:
    """Return the environment, made by ``eval --install``; a minute or more on a new machine."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "r1deploy-tests"
    base.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, (base / "lock").open("a") as lock:
        patch.setenv("XDG_DATA_HOME", str(base))
        fcntl.flock(lock, fcntl.LOCK_EX)
        evalinstall.install({}, print)
        return environment_folder()


@pytest.fixture
def eval_home(evalscope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of eval's own for one test, with the shared environment in it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    home().mkdir(parents=True)
    environment_folder().symlink_to(evalscope)
    return home()
