"""The real upstreams in the lab (`lab up --upstream`): mirrors, and a vendor's patch of the lab's own on top.

The real patch opens with the vendor's key only, so the lab plays the vendor: it
takes the real base commit, encrypts patches of its own with its own key, and
commits them below ``hardware/`` in its mirror. unpatch.py, the build and
`flagscale serve` are the real ones then. Where --upstream names no vLLM, the
stand-in's repository answers at its URL (`git.instead_of`), and the base is one
commit of the lab's on top of the real one: it only moves the gitlink, which
names a commit that a stand-in cannot have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from r1deploy.lab import places, thismachine
from r1deploy.lab.laberrors import LabError

# FlagScale's commit that the vendor's patch of June 2025 was made against.
BASE = "242842398986e61cdd43b0b3e2b03e95f6553899"
FORM = "NAME=URL or NAME=URL#COMMIT, NAME one of " + ", ".join(places.REPOSITORIES)


@dataclass(frozen=True)
class Upstream:
    """A repository of the user's: a URL or a local clone, and for FlagScale the commit to patch."""

    name: str
    url: str
    commit: str

    @property
    def text(self) -> str:
        return f"{self.name}={self.url}#{self.commit}"


def parse(words: Iterable[str]) -> dict[str, Upstream]:
    """Read the values of ``--upstream``. Raises LabError."""
    upstreams: dict[str, Upstream] = {}
    for word in words:
        name, equals, rest = word.partition("=")
        url, _, commit = rest.partition("#")
        if not equals or not url or name not in places.REPOSITORIES or name in upstreams:
            raise LabError(f"--upstream {word} is not understood", FORM)
        if commit and name != "FlagScale":
            raise LabError(f"--upstream {word}: only FlagScale takes a commit", FORM)
        local = Path(url).expanduser()
        upstreams[name] = Upstream(name, str(local.resolve()) if local.is_dir() else url, commit or BASE)
    if "vllm" in upstreams and "FlagScale" not in upstreams:
        raise LabError("--upstream vllm needs --upstream FlagScale: its commit names vLLM's", FORM)
    return upstreams


def full_commit(repository: Path, commit: str) -> str:
    """The whole name of a commit, which has to be reachable from a branch or tag. Raises LabError."""
    try:
        return thismachine.run(["git", "-C", str(repository), "rev-parse", "--verify", f"{commit}^{{commit}}"]).strip()
    except LabError as error:
        raise LabError(f"FlagScale of --upstream has no commit {commit}", FORM, error.evidence) from error


def submodule_url(repository: Path, commit: str, name: str) -> str:
    """Where .gitmodules says that a submodule is cloned from."""
    text = thismachine.run(["git", "-C", str(repository), "show", f"{commit}:.gitmodules"])
    section = re.search(rf'\[submodule "third_party/{re.escape(name)}"\](.*?)(?=\n\[|\Z)', text, re.DOTALL)
    url = re.search(r"^\s*url\s*=\s*(\S+)", section.group(1), re.MULTILINE) if section else None
    if url is None:
        raise LabError(f"FlagScale of --upstream has no submodule third_party/{name} at {commit[:12]}")
    return url.group(1)


def gitlink(repository: Path, commit: str, name: str) -> str:
    """The commit of a submodule that a commit names."""
    row = thismachine.run(["git", "-C", str(repository), "ls-tree", commit, f"third_party/{name}"])
    return row.split()[2]
