"""A git work tree of the lab whose commits come out the same every time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from r1deploy.lab import images, thismachine

EXECUTABLE = {"clean_vllm.sh", "build_vllm.sh", "install_vllm.sh"}


class Work:
    """A work tree whose commits come out the same every time."""

    def __init__(self, folder: Path, source: str | None = None) -> None:
        """An empty repository, or with ``source`` (a URL or a clone) a clone of it."""
        self.folder = folder
        self.count = 0
        folder.mkdir(parents=True)
        if source is None:
            self.git("init", "--quiet", "--initial-branch=main")
        else:
            self.git("clone", "--quiet", "--no-local", source, ".")
            self.git("checkout", "--quiet", "-B", "main")

    def git(self, *argv: str) -> str:
        when = f"{1_749_600_000 + 3600 * self.count} +0000"
        fixed = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "GIT_CONFIG_GLOBAL": os.devnull}
        who = ["user.name=r1deploy lab", "user.email=lab@r1deploy.invalid", "core.autocrlf=false", "gc.auto=0"]
        options = [part for setting in who for part in ("-c", setting)]
        pairs = [f"{name}={value}" for name, value in fixed.items()]
        return thismachine.run(["env", *pairs, "git", "-C", str(self.folder), *options, *argv]).strip()

    def lay(self, source: Path) -> None:
        """Copy a stand-in folder over the tree."""
        for path in images.source_files(source):
            target = self.folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o755 if path.name in EXECUTABLE else 0o644)

    def write(self, path: str, data: str | bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)

    def commit(self, message: str) -> str:
        self.count += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def diff_of(self, overlay: Path, at: str) -> bytes:
        """What the overlay changes at a commit, as a patch; the tree is left as it was."""
        self.git("checkout", "--quiet", "--detach", at)
        self.lay(overlay)
        self.git("add", "--all")
        text = self.git("diff", "--cached", "--binary", at)
        self.git("reset", "--quiet", "--hard", at)
        self.git("checkout", "--quiet", "main")
        return (text + "\n").encode()
