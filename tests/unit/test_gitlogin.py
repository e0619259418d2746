"""Logins in git's URLs: git gets them, and no argument, clone or message does (field.md 2.8)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1deploy.errors import PreflightError
from r1deploy.inputs import git
from r1deploy.settings import gitlogin
from r1deploy.settings.load import from_profile
from r1deploy.settings.model import Settings
from tests.lab import standin_web as web

PASSWORD = "canary-p@ss%w\"o'r\\d-4c1e"
QUOTED = "canary-p%40ss%25w%22o%27r%5Cd-4c1e"


def run(*argv: str, cwd: Path | None = None, **env: str) -> str:
    given = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **given, **env}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[web.Upstream]:
    """A git server that asks for a login, with one repository of one commit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    place = tmp_path / "repositories"
    run("git", "init", "-q", "--bare", "-b", "main", str(place / "FlagScale.git"))
    run("git", "init", "-q", "-b", "main", str(tmp_path / "work"))
    run("git", "commit", "-q", "--allow-empty", "-m", "one", cwd=tmp_path / "work")
    run("git", "push", "-q", str(place / "FlagScale.git"), "main", cwd=tmp_path / "work")
    (tmp_path / "tls").mkdir()
    _, server = web.certificate(tmp_path / "tls", "127.0.0.1")
    found = web.Upstream("127.0.0.1", place, server, tmp_path / "no.whl")
    found.login = f"robot:{PASSWORD}"
    with web.running(found):
        yield found


def settings_of(tmp_path: Path, upstream: web.Upstream, url: str = "", **rules: str) -> Settings:
    """Settings whose FlagScale lies at the server. In: its URL, ``git.instead_of``; {port} is the server's."""
    base = from_profile("iluvatar-bi-v150")
    url = (url or f"https://robot:{QUOTED}@127.0.0.1:{{port}}/FlagScale.git").format(port=upstream.server_port)
    instead = {key.format(port=upstream.server_port): rules[key].format(port=upstream.server_port) for key in rules}
    return base.model_copy(
        update={
            "flagscale": base.flagscale.model_copy(update={"url": url, "ref": "main"}),
            "git": base.git.model_copy(update={"instead_of": instead}),
            "site": base.site.model_copy(update={"ca_bundle": str(tmp_path / "tls" / "ca.pem")}),
        }
    )


def shown(upstream: web.Upstream) -> list[str]:
    """Command lines that were seen with the login for this server; another worker's tests have one of their own."""
    return [line for line in upstream.argv if f":{upstream.server_port}/" in line]


def test_git_gets_the_login_and_nobody_else(
    tmp_path: Path, upstream: web.Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """field.md 2.8: on the controller; the user's own helper is neither asked nor told."""
    (tmp_path / "home").mkdir()
    told = tmp_path / "told"
    run("git", "config", "--global", "credential.helper", f"!cat >> {told}; echo")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "somebody")
    settings = settings_of(tmp_path, upstream)
    commit = git.commit_of(settings, settings.flagscale)
    clone = git.clone_with(settings, commit)
    assert run("git", "-C", str(clone), "cat-file", "-t", commit) == "commit"
    assert shown(upstream) == []
    assert not told.exists()
    for path in (tmp_path / "cache").rglob("*"):
        assert not path.is_file() or QUOTED.encode() not in path.read_bytes()


def test_the_watch_for_arguments_sees_them(tmp_path: Path, upstream: web.Upstream) -> None:
    """What the tests of logins rely on: git with the login in its URL is caught."""
    url = f"https://robot:{QUOTED}@127.0.0.1:{upstream.server_port}/FlagScale.git"
    upstream.login = f"robot:{QUOTED}"
    subprocess.run(["git", "-c", "http.sslVerify=false", "ls-remote", url], capture_output=True, check=False)
    assert shown(upstream)


@pytest.mark.parametrize(
    ("url", "rules"),
    [
        (
            "https://git.example/x/FlagScale.git",
            {"https://git.example/x/": f"https://robot:{QUOTED}@127.0.0.1:{{port}}/"},
        ),
        (
            "https://old:one@127.0.0.1:{port}/FlagScale.git",
            {"https://old:one@127.0.0.1:{port}/": f"https://robot:{QUOTED}@127.0.0.1:{{port}}/"},
        ),
    ],
    ids=["a mirror's login", "instead of another login"],
)
def test_logins_of_mirrors(tmp_path: Path, upstream: web.Upstream, url: str, rules: dict[str, str]) -> None:
    settings = settings_of(tmp_path, upstream, url, **rules)
    assert len(git.commit_of(settings, settings.flagscale)) == 40
    assert shown(upstream) == []


def test_a_token_without_a_password(tmp_path: Path, upstream: web.Upstream) -> None:
    upstream.login = "canary-token-51d0:"
    settings = settings_of(tmp_path, upstream, "https://canary-token-51d0@127.0.0.1:{port}/FlagScale.git")
    assert len(git.commit_of(settings, settings.flagscale)) == 40


def test_a_wrong_login_is_named(tmp_path: Path, upstream: web.Upstream) -> None:
    settings = settings_of(tmp_path, upstream, "https://robot:canary-wrong-7@127.0.0.1:{port}/FlagScale.git")
    with pytest.raises(PreflightError) as refused:
        git.commit_of(settings, settings.flagscale)
    assert refused.value.code == "GIT_AUTH"
    assert "canary-wrong" not in repr(refused.value.to_dict())


def test_files_of_a_host_give_the_same(tmp_path: Path, upstream: web.Upstream) -> None:
    """field.md 2.8: what the builder gets: settings that lead to a file, and nothing in an argument."""
    settings = settings_of(tmp_path, upstream)
    for row in gitlogin.files(gitlogin.logins(settings), str(tmp_path)):
        (tmp_path / row["name"]).write_text(row["content"])
    assert "canary" not in (tmp_path / "login.gitconfig").read_text()
    url = gitlogin.bare(settings.flagscale.url)
    env = {"GIT_CONFIG_GLOBAL": str(tmp_path / "login.gitconfig"), "GIT_SSL_CAINFO": str(tmp_path / "tls" / "ca.pem")}
    assert "refs/heads/main" in run("git", "ls-remote", url, **env, GIT_TERMINAL_PROMPT="0")
    assert shown(upstream) == []
    clone = tmp_path / "clone"
    run("git", "clone", "-q", url, str(clone), **env)
    assert "canary" not in (clone / ".git" / "config").read_text()


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://a:b@h/x.git", "https://h/x.git"),
        ("HTTP://a@h:80/", "HTTP://h:80/"),
        ("ssh://git@h/x.git", "ssh://git@h/x.git"),
        ("git@h:x.git", "git@h:x.git"),
        ("file:///a@b", "file:///a@b"),
        ("-C", "-C"),
    ],
)
def test_bare(url: str, wanted: str) -> None:
    assert gitlogin.bare(url) == wanted
