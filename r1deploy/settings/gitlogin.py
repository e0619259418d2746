"""Logins of git's URLs, taken out of the URLs: those stand in arguments, in clones and in messages.

git asks a helper for them. Here and in the container the helper prints two variables of git's environment; on a host,
where Ansible's environment is an argument too, it prints a file that is gone afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from r1deploy.settings.model import Settings
from r1deploy.settings.redact import split_login

HTTP = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True)
class Login:
    """What git has to say at ``url`` and below it; without a password the user's own helpers are asked too."""

    url: str
    username: str
    password: str = field(repr=False)


def bare(url: str) -> str:
    """Return ``url`` without its login, where git sends one: over http and https. The user of ssh://user@host stays."""
    scheme = HTTP.match(url)
    return scheme[0] + split_login(url[scheme.end() :])[1] if scheme else url


def login_of(url: str) -> Login | None:
    """The login in a URL or in the prefix of one, decoded."""
    scheme = HTTP.match(url)
    login = split_login(url[scheme.end() :])[0] if scheme else ""
    if not login:
        return None
    username, _, password = login.partition(":")
    return Login(bare(url), unquote(username), unquote(password))


def logins(settings: Settings) -> list[Login]:
    """All logins that the settings hold for git; of two for one place the more exact one comes last, and holds."""
    rules = settings.git.instead_of
    replaced = tuple(map(bare, (*rules, *settings.git.mirrors)))
    asked = [url for url in (settings.flaggems.url, settings.flagscale.url) if not bare(url).startswith(replaced)]
    by_url = {row.url: row for row in map(login_of, (*asked, *rules.values())) if row}
    return sorted(by_url.values(), key=lambda row: (len(row.url), row.url))


def configuration(login: Login, helper: str) -> list[tuple[str, str]]:
    """git's settings for a login. In: the command that prints it."""
    section = f"credential.{login.url}"
    # Else a helper of the user's would answer first, and be told to keep what we know.
    alone = [(f"{section}.helper", "")] if login.password else []
    return [
        (f"{section}.username", login.username),
        (f"{section}.useHttpPath", "false"),
        *alone,
        (f"{section}.helper", f'!r() {{ test "$1" = get && {helper}; }}; r'),
    ]


def environment(rows: Iterable[Login], before: int = 0) -> dict[str, str]:
    """Variables that give git its logins; it hands them on to the git of submodules.

    In: how many settings the environment gives already (GIT_CONFIG_COUNT).
    """
    variables: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    for number, login in enumerate(rows):
        names = [f"R1DEPLOY_GIT_{number}_{part}" for part in ("USERNAME", "PASSWORD")]
        variables |= dict(zip(names, (login.username, login.password), strict=True))
        # printf is the shell's own: no argument of a process.
        pairs += configuration(login, f'printf "username=%s\\npassword=%s\\n" "${names[0]}" "${names[1]}"')
    for number, (key, value) in enumerate(pairs, start=before):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {**variables, "GIT_CONFIG_COUNT": str(before + len(pairs))} if pairs else {}


def files(rows: Iterable[Login], folder: str) -> list[dict[str, str]]:
    """The same as files on a host: name, content; the settings in ``login.gitconfig`` lead to the others by path."""
    written, lines = [], []
    for number, login in enumerate(rows):
        name = f"login-{number}"
        written.append({"name": name, "content": f"username={login.username}\npassword={login.password}\n"})
        for key, value in configuration(login, f"cat {folder}/{name}"):
            section, _, variable = key.removeprefix("credential.").rpartition(".")
            lines.append(f"[credential {quoted(section)}]\n\t{variable} = {quoted(value)}\n")
    return [*written, {"name": "login.gitconfig", "content": "".join(lines)}] if written else []


def quoted(text: str) -> str:
    """A text in the quotes of git's configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
