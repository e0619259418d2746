"""The repositories and commits that a locked deployment needs, and the proof that they can be had."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from typing import Any

import yaml

from r1deploy.errors import PreflightError
from r1deploy.inputs.git import blobs, clone_with, git
from r1deploy.inputs.locking import need
from r1deploy.settings.lockfile import Lock
from r1deploy.settings.model import Settings
from r1deploy.settings.redact import without_login


@dataclass(frozen=True)
class Upstream:
    """A repository and its commits, the one to check out first."""

    name: str
    url: str
    commits: tuple[str, ...]


def upstreams(settings: Settings, lock: Lock) -> list[Upstream]:
    """FlagGems, FlagScale and what the patch clones as submodules. Raises PreflightError."""
    flaggems, flagscale, patch = need(lock)
    gems = Upstream("FlagGems", settings.flaggems.url, (flaggems.commit,))
    if not settings.patch.backends:
        return [gems, Upstream("FlagScale", settings.flagscale.url, (flagscale.commit,))]
    facts = patch_facts(settings, patch.commit)
    base = str(facts["commit"])
    scale = tuple(dict.fromkeys((flagscale.commit, patch.commit, base)))
    repositories = [gems, Upstream("FlagScale", settings.flagscale.url, scale)]
    for name, commit in (facts.get("backends_commit") or {}).items():
        url, linked = submodule(settings, base, str(name))
        repositories.append(Upstream(str(name), url, tuple(dict.fromkeys((linked, str(commit))))))
    return repositories


def patch_facts(settings: Settings, commit: str) -> dict[str, Any]:
    """What the patch says of itself (diff.yaml): its base commit, and the backends' commits."""
    path = f"hardware/{settings.patch.device_type}/{settings.patch.backends[-1]}/diff.yaml"
    try:
        facts = yaml.safe_load(blobs(settings, commit, [path])[path])
        return {"commit": str(facts["commit"]), "backends_commit": dict(facts.get("backends_commit") or {})}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise PreflightError("PATCH_MISSING", f"FlagScale {commit[:12]}: {path} is not as expected: {error}") from None


def submodule(settings: Settings, commit: str, name: str) -> tuple[str, str]:
    """URL and commit of FlagScale's submodule ``third_party/<name>`` at a commit."""
    path = f"third_party/{name}"
    clone = clone_with(settings, commit)
    row = git(settings, "-C", str(clone), "ls-tree", commit, path).decode().split()
    text = blobs(settings, commit, [".gitmodules"])[".gitmodules"].decode()
    section = text.partition(f'"{path}"]')[2].partition("[")[0]
    url = re.search(r"^\s*url\s*=\s*(\S+)", section, re.MULTILINE)
    if len(row) < 3 or row[1] != "commit" or url is None:
        raise PreflightError("PATCH_MISSING", f"FlagScale {commit[:12]} has no submodule {path}")
    return url[1], row[2]


def prove_upstreams(settings: Settings, lock: Lock) -> str:
    """Every commit can be had from where the builder will ask for it; returns a sentence. Raises PreflightError.

    Asked of the remote each time: only the commits themselves travel where the server can filter.
    """
    repositories = upstreams(settings, lock)
    for row in repositories:
        with tempfile.TemporaryDirectory(prefix="r1-git-") as folder:
            git(settings, "init", "-q", "--bare", folder)
            want = ("fetch", "-q", "--no-tags", "--depth", "1", "--filter", "tree:0", row.url, *row.commits)
            try:
                git(settings, "-C", folder, *want)
            except PreflightError as error:
                raise lacking(error, row.url, row.commits) from None
    return f"{sum(len(row.commits) for row in repositories)} commits of {len(repositories)} repositories can be had"


def lacking(error: PreflightError, url: str, commits: tuple[str, ...]) -> PreflightError:
    """Git's refusal of a commit, by its name; other errors as they are."""
    if error.code != "GIT_FAILED":
        return error
    said = "\n".join(error.evidence)
    gone = next((commit for commit in commits if commit in said), commits[0])
    message = f"{without_login(url)} (or its mirror) has no commit {gone[:12]}"
    return PreflightError("GIT_REF_GONE", message, evidence=error.evidence, fix="update the mirror, or git.instead_of")
