"""The one door to git here: it never asks, never hangs, and reaches what proxies, CAs, mirrors and logins allow."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from r1deploy.causes import GIT, GIT_UNKNOWN, Cause, cause_of
from r1deploy.errors import PreflightError
from r1deploy.settings import gitlogin, redact, site
from r1deploy.settings.model import Settings, Source
from r1deploy.settings.redact import without_login

COMMIT = re.compile(r"^[0-9a-f]{40}$")

GIT_SECONDS = 120


def cache_folder() -> Path:
    """Where clones of upstreams are kept here."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "r1deploy" / "git"


def git(settings: Settings, *arguments: str, seconds: int = GIT_SECONDS) -> bytes:
    """Output of a git command that never asks and never hangs. Raises PreflightError with git's own last lines."""
    mirrors = {url: f"file://{path}" for url, path in settings.git.mirrors.items()}
    # Of two rules the longer one holds; of two for the same URL the last one, so a mirror here comes last.
    places = {**settings.git.instead_of, **mirrors}.items()
    rules = [f"url.{gitlogin.bare(mirror)}.insteadOf={gitlogin.bare(prefix)}" for prefix, mirror in places]
    arguments = tuple(gitlogin.bare(word) for word in arguments)
    argv = ["git", *(word for rule in rules for word in ("-c", rule)), *arguments]
    own = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes", "LC_ALL": "C"}
    known = gitlogin.environment(gitlogin.logins(settings), int(os.environ.get("GIT_CONFIG_COUNT") or 0))
    env = {**os.environ, **own, **site.with_ca(settings.site), **known}
    try:
        done = subprocess.run(argv, env=env, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise PreflightError("GIT_CLIENT_MISSING", "git is not installed here", fix="apt-get install git") from None
    except subprocess.TimeoutExpired:
        raise PreflightError("GIT_NO_ROUTE", f"git {command_of(arguments)}: no answer in {seconds} s") from None
    if done.returncode != 0:
        lines = redact.text(redact.hide(done.stderr.decode("utf-8", "replace"))).strip().splitlines()[-5:]
        cause, sentence = why(settings, "\n".join(lines))
        fix = cause.fix.format(url=url_of(arguments))
        raise PreflightError(cause.code, f"git {command_of(arguments)}: {sentence}", evidence=lines, fix=fix)
    return done.stdout


def url_of(arguments: tuple[str, ...]) -> str:
    """The URL of a command line, as it can be shown; the word URL where there is none."""
    urls = [word for word in arguments if re.match(r"[a-z+]+://|/|[^/:]+@[^/:]+:", word)]
    return shlex.quote(without_login(urls[-1])) if urls else "URL"


def command_of(arguments: tuple[str, ...]) -> str:
    """Git's verb in a command line that may begin with ``-C FOLDER``."""
    return arguments[2] if arguments[0] == "-C" else arguments[0]


def why(settings: Settings, text: str) -> tuple[Cause, str]:
    """The cause of what git said, and its sentence."""
    proxies = (settings.site.http_proxy, settings.site.https_proxy)
    for proxy in (urlsplit(url) for url in proxies if url):
        # A proxy that is down looks like a server that is: only the address tells.
        if proxy.hostname and re.search(rf"connect to {re.escape(proxy.hostname)} port {proxy.port or ''}", text):
            cause = next(row for row in GIT if row.code == "GIT_PROXY")
            return cause, f"no connection to the proxy {proxy.hostname}"
    cause = cause_of(GIT, text) or GIT_UNKNOWN
    return cause, cause.sentence


def commit_of(settings: Settings, source: Source) -> str:
    """The commit that a branch, tag or commit names. Raises PreflightError GIT_REF_GONE."""
    if COMMIT.match(source.ref):
        return source.ref
    wanted = (f"refs/tags/{source.ref}^{{}}", f"refs/heads/{source.ref}", f"refs/tags/{source.ref}")
    rows = git(settings, "ls-remote", source.url, *wanted).decode().splitlines()
    refs = {name: commit for commit, name in (row.split("\t") for row in rows)}
    for name in wanted:
        if name in refs:
            return refs[name]
    raise PreflightError(
        "GIT_REF_GONE",
        f"{without_login(source.url)} has no branch or tag {source.ref}",
        fix=f"git ls-remote {shlex.quote(without_login(source.url))} lists those there are",
    )


def ref_of(settings: Settings, source: Source) -> str | None:
    """The full name of a branch or tag; None for a commit, or where the remote has it no more."""
    if COMMIT.match(source.ref):
        return None
    wanted = (f"refs/heads/{source.ref}", f"refs/tags/{source.ref}")
    rows = git(settings, "ls-remote", source.url, *wanted).decode().splitlines()
    return next((row.split("\t")[1] for row in rows), None)


def clone_with(settings: Settings, commit: str) -> Path:
    """A clone of FlagScale, kept here, that holds a commit. Raises PreflightError where the commit is gone."""
    url = gitlogin.bare(settings.flagscale.url)
    clone = cache_folder() / (hashlib.sha256(url.encode()).hexdigest()[:16] + ".git")
    if not (clone / "HEAD").exists():
        clone.parent.mkdir(parents=True, exist_ok=True)
        git(settings, "init", "-q", "--bare", str(clone))
    have = subprocess.run(
        ["git", "-C", str(clone), "cat-file", "-e", f"{commit}^{{tree}}"], capture_output=True, check=False
    )
    if have.returncode != 0:
        try:
            git(settings, "-C", str(clone), "fetch", "-q", "--depth", "1", url, commit)
        except PreflightError as error:
            if error.code != "GIT_FAILED":
                raise
            fix = "check patch.commit and flagscale.url"
            message = f"{without_login(url)} has no commit {commit[:12]}"
            raise PreflightError("GIT_REF_GONE", message, evidence=error.evidence, fix=fix) from None
    return clone


def blobs(settings: Settings, commit: str, paths: list[str]) -> dict[str, bytes]:
    """Files of FlagScale at a commit, from a clone kept here. Raises PreflightError where commit or file is gone."""
    if not paths:
        return {}
    clone = clone_with(settings, commit)
    files = {}
    for path in paths:
        try:
            files[path] = git(settings, "-C", str(clone), "show", f"{commit}:{path}")
        except PreflightError as error:
            message = f"FlagScale {commit[:12]} has no {path}"
            fix = "check patch.device_type and patch.backends"
            raise PreflightError("PATCH_MISSING", message, evidence=error.evidence, fix=fix) from None
    return files
