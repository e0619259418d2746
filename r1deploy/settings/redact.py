"""What may be shown: never a secret, however it is spelled.

Two ways, and both are needed. *By value*: what was read as a secret is remembered, and ``hide`` takes it out of any
text, raw or encoded. *By name*: a setting that is called like a secret is hidden before anybody used it (``shown``).
Hide first, then encode, wrap or shorten: half a secret is one too.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

HIDDEN = "(hidden)"
# A value of that length is hidden wherever it stands; a shorter one only as a word of its own.
LONG = 8
SHORT = 4

# A file's path is no secret, nor is a folder of the environment.
_FILE = re.compile(r"([_.-](file|dir|path)|(?<=[a-z])(File|Dir|Path))$|^(OLD)?PWD$", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Of a name's words: whole ones (max_tokens is no secret), endings (SSHPASS, PGPASSWORD), and the last one.
_WHOLE = frozenset({"token", "secret", "secrets", "auth", "authorization", "bearer", "cookie", "pwd"})
_ENDING = re.compile(
    r"(?<!by)(?<!com)pass$|(passw(or)?d|passphrase|credential|apikey|accesskey|privatekey|secretkey|authtoken)s?$"
)
_LAST = frozenset({"key", "keys"})

_URL = re.compile(r"(?<=://)\S+")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")
_BEARER = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9+/=._~-]{8,}")
_QUOTED = r"""\\+"[^"]*?\\+"|"(?:\\.|[^"\\])*"|'[^']*'"""
_VALUE = rf"""(?:{_QUOTED}|[^\s,;&"'}}\]]+)"""
_ASSIGNED = re.compile(rf"""(?<![\w.])(?<!\w-)(?P<name>[A-Za-z][\w.-]{{0,60}})(?P<sign>\\*["']\s*:\s*|=){_VALUE}""")

# The letters of escapes: JSON's, C's, YAML's.
_ESCAPES = dict(zip("\t\b\f\r\v\a\x1b\0\x85\xa0\u2028\u2029", "tbfrvae0N_LP", strict=True))

_KNOWN: dict[str, tuple[re.Pattern[str], ...]] = {}


def remember(secret: str) -> None:
    """Hide this value wherever it would be printed or logged from now on, in every encoding that we know.

    In: one value, or a file of lines such as a private key. Values under four characters are left: they hide too much.
    """
    for line in secret.split("\n"):
        text = line.strip()
        if len(text) >= SHORT and text not in _KNOWN and not text.startswith("-----"):
            _KNOWN[text] = tuple(_patterns(text))


def hide(value: str) -> str:
    """Return ``value`` without the secrets that are known in this run, whether raw, JSON, shell, URL or base64."""
    for secret in sorted(_KNOWN, key=len, reverse=True):
        for pattern in _KNOWN[secret]:
            value = pattern.sub(HIDDEN, value)
    return value


def hide_in(value: Any, change: Callable[[str], str] = hide) -> Any:
    """``value`` with the known secrets hidden in each string of it: before it is encoded, so that no encoding matters.

    Out: the same shape of dicts, lists and scalars, for ``json.dumps``; what JSON does not know comes as its text.
    """
    if isinstance(value, str):
        return change(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if change(str(value)) == str(value) else HIDDEN
    if isinstance(value, Mapping):
        return {change(str(key)): hide_in(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [hide_in(item, change) for item in value]
    return change(str(value))


def _patterns(secret: str) -> Iterator[re.Pattern[str]]:
    """What finds a secret in a text: each of its characters in any spelling; and in base64, wherever it begins."""
    spelled = "".join(_spellings(secret))
    if len(secret) < LONG:
        yield re.compile(rf"(?<![0-9A-Za-z_]){spelled}(?![0-9A-Za-z_])")
        return
    yield re.compile(spelled)
    data = secret.encode("utf-8", "surrogatepass")
    for before in range(3):
        # Only the characters that nothing but the secret decides.
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        text = base64.b64encode(b"\0" * before + data).decode()[first:last]
        yield re.compile("".join({"+": "[+-]", "/": r"\\?[/_]"}.get(char, char) for char in text))


def _spellings(secret: str) -> Iterator[str]:
    """A pattern for each character (a run of backslashes counts as one)."""
    before = ""
    for run in re.findall(r"\\+|[^\\]", secret):
        if run[0] == "\\":
            # Escaping makes more of them, at every level of quotes.
            yield rf"(?<!\\)(?:\\|%5[Cc]){{{len(run)},}}" if not before else rf"(?:\\|%5[Cc]){{{len(run)},}}"
        elif run.isascii() and run.isalnum():
            yield run
        else:
            yield f"(?:{'|'.join(_spelled(run, before))})"
        before = run[-1]


def _spelled(char: str, before: str) -> Iterator[str]:
    """The spellings of a character that some encoding changes. In: the one before it.

    A pattern never begins with a run of backslashes: a text of many of them would take for ever.
    """
    lead, escape = (r"\\*", r"\\+") if before else ("", r"\\")
    if before == "\\":  # its run takes them
        lead = escape = ""
    data, code = char.encode("utf-8", "surrogatepass"), ord(char)
    if char == "'":  # as the shell's quotes and YAML's write it
        yield from (r"'\\*\"'\\*\"'", r"'\\+''", "''")
    yield lead + re.escape(char)
    yield "(?i:" + "".join(f"%{byte:02x}" for byte in data) + ")"
    if char == " ":
        yield r"\+"
    if char in "&<>\"'":
        yield re.escape(html.escape(char))
    if char in _ESCAPES:
        yield escape + _ESCAPES[char]
    units = char.encode("utf-16-be", "surrogatepass").hex()
    yield f"(?i:{escape}" + r"\\+".join("u" + units[at : at + 4] for at in range(0, len(units), 4)) + ")"
    yield rf"(?i:{escape}u{code:08x})"
    if code < 256:
        yield rf"(?i:{escape}x{code:02x})"
    yield f"(?i:{escape}" + r"\\+".join(f"x{byte:02x}" for byte in data) + ")"
    yield escape + r"\\+".join(f"{byte:03o}" for byte in data)


def names_a_secret(name: str) -> bool:
    """Whether a setting or variable is called like a secret: SSHPASS, OPENAI_KEY; not max_tokens, key_file."""
    if _FILE.search(name):
        return False
    words = [word.lower() for word in _WORDS.findall(name)]
    return any(word in _WHOLE or _ENDING.search(word) for word in words) or bool(words and words[-1] in _LAST)


def shown(path: tuple[str, ...], value: object) -> object:
    """Return ``value`` of the setting ``path`` with every secret hidden; same shape."""
    if path and names_a_secret(path[-1]) and value is not None:
        return HIDDEN
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [shown((), item) for item in value]
    if isinstance(value, Mapping):
        return {text(str(key)): shown((str(key),), item) for key, item in value.items()}
    return value


def secrets_of(value: object, name: str = "") -> Iterator[str]:
    """The secrets that settings hold: values under a secret's name, and the logins of URLs; long ones only."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_of(str(key))
            yield from secrets_of(item, name if names_a_secret(name) else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_of(item, name)
    elif isinstance(value, str):
        logins = (split_login(row)[0] for row in _URL.findall(value))
        secrets = [value] if names_a_secret(name) else [part for login in logins for part in _parts(login)]
        yield from (row for row in secrets if len(row) >= LONG)


def split_login(rest: str) -> tuple[str, str]:
    """What follows ``://`` as (login, the rest): the last @ before the path ends the login.

    A slash may be part of the password, where what stands before it cannot be a host and a port.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    login, at, _ = (authority if _HOST.fullmatch(host) else rest).rpartition("@")
    return (login, rest[len(login) + 1 :]) if at else ("", rest)


def _parts(login: str) -> tuple[str, ...]:
    """What is secret of ``user:password``: the password, as it stands and decoded; a user alone may be a token."""
    from urllib.parse import unquote

    user, colon, password = login.partition(":")
    secret = password if colon and password not in ("", "x-oauth-basic") else user
    return secret, unquote(secret)


def text(value: str) -> str:
    """Return ``value`` without the logins of URLs, and without what is assigned to a secret's name (``HF_TOKEN=…``)."""

    def assigned(match: re.Match[str]) -> str:
        return match["name"] + match["sign"] + HIDDEN if names_a_secret(match["name"]) else match[0]

    def login(match: re.Match[str]) -> str:
        name, rest = split_login(match[0])
        return f"{HIDDEN}@{rest}" if name else rest

    value = _BEARER.sub(rf"\1\2{HIDDEN}", _URL.sub(login, value))
    return _ASSIGNED.sub(assigned, value)


def without_login(url: str) -> str:
    """Return ``url`` without its login: ``https://a:b@host/`` → ``https://host/``."""
    return _URL.sub(lambda match: split_login(match[0])[1], url)


def without_logins(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with the login removed from every URL in them, however deep."""
    return {key: _cleaned(value) for key, value in values.items()}


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return without_login(value)
    if isinstance(value, Mapping):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
