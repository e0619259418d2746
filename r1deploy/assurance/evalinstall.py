"""evalscope in an environment of its own, every file of it by its sha256; never mixed with r1deploy's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from r1deploy.assurance import evalasking
from r1deploy.assurance.evalchild import Program, last_lines, run
from r1deploy.assurance.evalhome import environment_folder, home, locked
from r1deploy.errors import PreflightError
from r1deploy.journal import private_folder
from r1deploy.run import silent
from r1deploy.voice import Say

HERE = Path(__file__).parent
# What sdists are built with comes first: pip would else get it by itself, and without a hash.
BUILD, PINS = HERE / "evalscope-build.txt", HERE / "evalscope.txt"
STAMP = "r1deploy.json"
WHAT = "evalscope's environment"
PIP = ("--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes", "--no-deps", "--no-build-isolation")
# The sets lie here when questions are asked.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
FIX = "give pip here its index or proxy (site.pip_index_url, PIP_INDEX_URL, PIP_FIND_LINKS, site.https_proxy)"


def wanted() -> dict[str, str]:
    """What an environment was made of; another r1deploy or Python makes another one."""
    digest = hashlib.sha256(BUILD.read_bytes() + PINS.read_bytes()).hexdigest()
    return {"pins": digest, "python": sys.version.split()[0], "prefix": sys.base_prefix}


def installed() -> bool:
    """Whether the environment is there, whole, and what this r1deploy pins."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads((environment_folder() / STAMP).read_text(encoding="utf-8")) == wanted())
    return False


def version() -> str:
    """evalscope's version, as it is pinned."""
    rows = PINS.read_text(encoding="utf-8").splitlines()
    return next(row.split("==")[1].split()[0] for row in rows if row.startswith("evalscope=="))


def install(environment: Mapping[str, str], say: Say) -> bool:
    """Make the environment; False where it was there. In: what pip is given, proxies and index.

    What an interrupted installation left is made anew. Raises PreflightError EVAL_INSTALL, LockedError EVAL_BUSY.
    """
    if installed():
        return False
    with locked(home() / "env.lock", WHAT):
        folder = environment_folder()
        shutil.rmtree(folder, ignore_errors=True)
        private_folder(folder.parent)
        say(f"installing evalscope {version()} into {folder}: 1.2 GB, a few minutes")
        _step([sys.executable, "-m", "venv", str(folder)], {}, "Debian and Ubuntu: apt-get install python3-venv")
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", *PIP]
        for pins in (BUILD, PINS):
            _step([*pip, "-r", str(pins)], environment, FIX)
        (folder / STAMP).write_text(json.dumps(wanted()), encoding="utf-8")
    return True


def download(folder: Path, environment: Mapping[str, str]) -> list[Path]:
    """All files that ``install`` takes, for this Python on this platform. Raises PreflightError EVAL_INSTALL."""
    pip = [str(environment_folder() / "bin" / "python"), "-m", "pip", "download", *PIP, "--dest", str(folder)]
    for pins in (BUILD, PINS):
        _step([*pip, "-r", str(pins)], environment, FIX)
    return sorted(folder.iterdir())


def _step(argv: list[str], environment: Mapping[str, str], fix: str) -> None:
    """One program of the installation. Raises PreflightError EVAL_INSTALL with its last lines."""
    log = home() / "install.log"
    log.write_bytes(b"")
    code = run(Program(argv, environment, log), "", silent, silent)
    if code != 0:
        message = f"{' '.join(argv[1:4])} ended with code {code}"
        raise PreflightError("EVAL_INSTALL", message, evidence=last_lines(log), fix=fix, log=log)


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Hold the environment while something runs in it. Raises PreflightError EVAL_MISSING, LockedError EVAL_BUSY."""
    if not installed():
        message = "evalscope is not installed, or not as this r1deploy needs it"
        raise PreflightError("EVAL_MISSING", message, fix="r1deploy eval --install")
    with locked(home() / "env.lock", WHAT, shared=True):
        yield


def program(environment: Mapping[str, str], log: Path) -> Program:
    """What asks the questions, in its environment; caches of its libraries stay in our folder."""
    argv = [str(environment_folder() / "bin" / "python"), "-I", "-B", str(Path(evalasking.__file__))]
    cache = str(home() / "cache")
    own = {"HF_HOME": cache, "MODELSCOPE_CACHE": cache, "EVALSCOPE_CACHE": cache, "PYTHONUNBUFFERED": "1"}
    return Program(argv, {**own, **environment}, log)
