"""Our folder on a host, as the probe says it."""

from __future__ import annotations

from pathlib import Path

from r1deploy.onhost import statefolder
from tests.onhost.making import put

COMMIT, OTHER = "a" * 40, "b" * 40


def test_git_head(tmp_path: Path) -> None:
    head = statefolder.git_head
    assert head(str(tmp_path)) is None, "no clone"
    put(tmp_path / ".git" / "HEAD", f"{COMMIT}\n")
    assert head(str(tmp_path)) == COMMIT, "detached"
    put(tmp_path / ".git" / "HEAD", "ref: refs/heads/a.b\n")
    assert head(str(tmp_path)) is None, "a branch without a commit"
    put(tmp_path / ".git" / "packed-refs", f"# pack-refs\n{OTHER} refs/heads/aXb\n{COMMIT} refs/heads/a.b\n^{OTHER}\n")
    assert head(str(tmp_path)) == COMMIT, "packed"
    put(tmp_path / ".git" / "refs" / "heads" / "a.b", f"{OTHER}\n")
    assert head(str(tmp_path)) == OTHER, "a loose ref is newer than a packed one"
