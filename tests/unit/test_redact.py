"""What is shown holds no secret, in whatever way it is written down."""

from __future__ import annotations

import base64
import json
import os
import shlex
import stat
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from r1deploy import journal
from r1deploy.ansible.events import Event
from r1deploy.cli import main
from r1deploy.errors import ConfigError
from r1deploy.journal import Journal
from r1deploy.settings import redact
from r1deploy.settings import secretfile as secrets

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
# Anything that a line of a file may hold; what a person makes up is mostly ASCII.
CHARS = st.one_of(
    st.characters(min_codepoint=33, max_codepoint=126),
    st.sampled_from("\"'\\ /@:%+=&<>$`\té中😀"),
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r"),
)
SECRETS = st.text(CHARS, min_size=redact.LONG, max_size=40).filter(
    lambda text: text == text.strip() and not text.startswith("-----") and text not in redact.HIDDEN
)
AROUND = st.text(st.characters(min_codepoint=48, max_codepoint=57), max_size=4)
WAYS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "json": json.dumps,
    "json in utf-8": lambda text: json.dumps(text, ensure_ascii=False),
    "json in json": lambda text: json.dumps(json.dumps({"a": text})),
    "json in json in json": lambda text: json.dumps(json.dumps(json.dumps([text], ensure_ascii=False))),
    "shell": shlex.quote,
    "shell in json": lambda text: json.dumps(f"export KEY={shlex.quote(text)}"),
    "json in shell": lambda text: shlex.quote(json.dumps({"key": text})),
    "url": urllib.parse.quote,
    "url, nothing safe": lambda text: urllib.parse.quote(text, safe=""),
    "url, lower case": lambda text: urllib.parse.quote(text, safe="").lower() if text.islower() else text,
    "form": urllib.parse.quote_plus,
    "url in json": lambda text: json.dumps(urllib.parse.quote(text)),
    "repr": repr,
    "ascii": ascii,
    "bytes": lambda text: repr(text.encode()),
    "yaml": lambda text: yaml.safe_dump({"a": text}, width=10_000),
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test remembers is no other test's."""
    before = dict(redact._KNOWN)
    redact._KNOWN.clear()
    yield
    redact._KNOWN.clear()
    redact._KNOWN.update(before)


def alone(secret: str) -> None:
    redact._KNOWN.clear()
    redact.remember(secret)


@given(SECRETS, AROUND, AROUND)
@fuzz(max_examples=EXAMPLES, deadline=None)
def test_a_remembered_value_is_hidden_in_every_way_of_writing_it(secret: str, before: str, after: str) -> None:
    """field.md 2.6: raw, JSON, shell, URL, in each other."""
    alone(secret)
    for name, write in WAYS.items():
        plain = before + write("x") + after
        found = redact.hide(before + write(secret) + after)
        assert redact.HIDDEN in found, (name, write(secret))
        # All that is left is what the encoding puts around any value.
        left = found.replace(redact.HIDDEN, "")
        assert len(left) <= len(plain) + 24 and write(secret) not in found, (name, found)
        assert secret not in left, (name, found)


@given(SECRETS, st.binary(max_size=5), st.binary(max_size=5))
@fuzz(max_examples=EXAMPLES, deadline=None)
def test_a_remembered_value_is_hidden_in_base64(secret: str, before: bytes, after: bytes) -> None:
    """field.md 2.6: base64 of any text that holds it, as of ``user:password``."""
    alone(secret)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(before + secret.encode() + after).decode()
        left = redact.hide(f"Authorization: Basic {encoded}").partition("Basic ")[2]
        assert redact.HIDDEN in left
        # At the edges a character that the neighbours decide too may stay: less than one byte at each.
        rest = len(left.replace(redact.HIDDEN, ""))
        assert rest <= (len(before) + len(after)) * 4 / 3 + 8


@given(SECRETS)
@fuzz(max_examples=EXAMPLES, deadline=None)
def test_a_structure_is_hidden_before_it_is_dumped(secret: str) -> None:
    alone(secret)
    value = {"a": [secret, {secret: (f"x {secret} y",)}], "b": {"n": 1, "none": None, "yes": True}}
    text = json.dumps(redact.hide_in(value), ensure_ascii=False)
    assert json.loads(text)["b"] == value["b"]
    assert secret not in json.loads(text)["a"][0] and secret not in text.replace(redact.HIDDEN, "")


PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126, blacklist_characters="/?#\\")
NAMED = st.text(PRINTABLE, min_size=1, max_size=30)


@given(st.from_regex(r"[a-z]{1,8}", fullmatch=True), NAMED)
@fuzz(max_examples=EXAMPLES, deadline=None)
def test_the_last_at_ends_a_password(user: str, password: str) -> None:
    """field.md 2.6: user:p@ss@host."""
    url = f"https://{user}:{password}@git.example:8443/x.git"
    assert redact.text(f"cannot read {url} today") == "cannot read https://(hidden)@git.example:8443/x.git today"
    assert redact.without_login(url) == "https://git.example:8443/x.git"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://u:p/w@h/x", "https://(hidden)@h/x"),
        ("https://me@corp.example:p/w@h:80/x", "https://(hidden)@h:80/x"),
        ("https://u:p?w#z@h/x", "https://(hidden)@h/x"),
        ("https://TOKEN@h/x", "https://(hidden)@h/x"),
        ("https://u:p@[::1]:80/x", "https://(hidden)@[::1]:80/x"),
        ("https://h:8443/x@v1", "https://h:8443/x@v1"),
        ("git+https://h/x@v1", "git+https://h/x@v1"),
        ("https://[::1]:80/x@v1", "https://[::1]:80/x@v1"),
    ],
)
def test_logins_of_urls(url: str, wanted: str) -> None:
    assert redact.text(url) == wanted
    assert redact.without_login(url) == wanted.replace("(hidden)@", "")


@pytest.mark.parametrize(
    "name",
    [
        "PASSPHRASE",
        "SSHPASS",
        "PGPASSWORD",
        "OPENAI_KEY",
        "HF_TOKEN",
        "MYSQL_PWD",
        "apiKey",
        "clientSecret",
        "api_keys",
        "VLLM_API_KEY",
        "aws_secret_access_key",
        "ansible_become_pass",
        "registry-password",
        "db.credentials",
    ],
)
def test_names_of_secrets(name: str) -> None:
    """field.md 2.6: names that are secret."""
    assert redact.names_a_secret(name)
    assert redact.shown(("env",), {name: "hunter2"}) == {name: redact.HIDDEN}
    row = json.dumps({name: "hunter2"})
    for given_as in (f"{name}=hunter2", f"--{name}=hunter2", row, json.dumps(row)):
        assert "hunter2" not in redact.text(f"run {given_as} now"), given_as


@pytest.mark.parametrize(
    "name",
    [
        "max_tokens",
        "api_key_file",
        "key_dir",
        "registry_password_file",
        "PWD",
        "OLDPWD",
        "VLLM_BYPASS",
        "image.name",
        "NCCL_SOCKET_IFNAME",
        "gpu_memory_utilization",
        "num_speculative_tokens",
        "model",
        "port",
        "KEEP",
    ],
)
def test_names_of_no_secrets(name: str) -> None:
    assert not redact.names_a_secret(name)
    assert redact.shown(("env",), {name: "value"}) == {name: "value"}
    assert redact.text(f"{name}=value") == f"{name}=value"


def test_short_ones_only_as_words() -> None:
    redact.remember("lab1")
    redact.remember("abc")
    assert redact.hide("lab1 'lab1' label lab12 abc") == "(hidden) '(hidden)' label lab12 abc"


def test_each_line_of_a_key_but_its_frame() -> None:
    redact.remember("-----BEGIN PRIVATE KEY-----\nMIIJQgIBADANBgkq\n-----END PRIVATE KEY-----\n")
    found = redact.hide("-----BEGIN PRIVATE KEY-----\nMIIJQgIBADANBgkq\n")
    assert found == "-----BEGIN PRIVATE KEY-----\n(hidden)\n"


def test_secrets_of_settings() -> None:
    found = set(
        redact.secrets_of(
            {
                "env": {"HF_TOKEN": "hf_0123456789", "PORT": "not-a-secret", "SSHPASS": "short"},
                "flaggems": {"url": "https://me:p%40ssword@h/x"},
                "git": {"instead_of": {"https://ghp_0123456789@h/": "https://b:other-password@y/"}},
                "service": {"api_key_file": "/a/path/of/a/file"},
            }
        )
    )
    assert found == {"hf_0123456789", "p%40ssword", "p@ssword", "ghp_0123456789", "other-password"}


def test_hiding_takes_linear_time() -> None:
    """A text that nearly matches, many times over: no pattern goes back and forth in it."""
    redact.remember("\\\\\\\"'\"'\\'aaaa\\\\")
    for part in ("\\", "\\\"'", "https://", "u:p@", '"a_key', "a--"):
        text = part * 60_000
        redact.hide(text)
        redact.text(text)


# The log of a run


def test_the_journal_hides_before_it_encodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 2.6: a key with quotes, a backslash and other letters; every line stays JSON, however long."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    secret = 'sk-"quoted"\\back-é中'
    redact.remember(secret)
    run = Journal("lab", "bootstrap", lambda _: None)
    result = {"msg": f"it says {secret}", "stdout": json.dumps({"key": secret}) + "x" * 100_000}
    run.event(Event("failed", "install", "Run the job", "node1", result))
    run.write(kind="end", argv=["--key", secret])
    assert run.path
    rows = [json.loads(line) for line in run.path.read_text().splitlines()]
    assert len(rows) == 2 and all(secret not in repr(row).encode().decode("unicode_escape") for row in rows)
    assert rows[0]["result"]["msg"] == "it says (hidden)"
    assert redact.hide(json.dumps(rows)) == json.dumps(rows)


def test_logs_and_crash_files_are_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """field.md 2.7: under umask 000, with folders that are not there yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a" / "state"))
    before = os.umask(0)
    try:
        Journal("lab", "bootstrap", lambda _: None).write(kind="end")
        main.report_bug(ValueError("x"))
    finally:
        os.umask(before)
    home = journal.state_home()
    for path in [home, *home.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert len(list((home / "crashes").iterdir())) == 1


def test_a_crash_has_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """field.md 2.7: one a crash, redacted, named in the message, the last 20 kept."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    redact.remember("canary-of-the-crash")
    for number in range(25):
        error = ValueError(f"{number}: canary-of-the-crash at https://u:pass@h/ \udcff")
        assert main.report_bug(error) == 1
        said = capsys.readouterr().err
        assert "canary-of-the-crash" not in said and "u:pass" not in said
        path = Path(said.partition("Log: ")[2].strip())
        text = path.read_text()
        assert f"ValueError: {number}: (hidden) at https://(hidden)@h/" in text
    kept = sorted(journal.state_home().joinpath("crashes").iterdir())
    assert len(kept) == 20 and path in kept


def test_a_crash_that_cannot_be_written_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    redact.remember("canary-of-the-crash")
    assert main.report_bug(ValueError("canary-of-the-crash")) == 1
    said = capsys.readouterr().err
    assert "ValueError: (hidden)" in said


@pytest.mark.parametrize("key", ["schlüssel-0123456789", "key\twith\ttab", "key\x1b[31m", "中文密钥"])
def test_an_api_key_that_no_header_can_carry(tmp_path: Path, key: str) -> None:
    """field.md 2.14: refused by name, and not shown."""
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(key)
    with pytest.raises(ConfigError) as refused:
        secrets.api_key(str(path))
    assert refused.value.code == "API_KEY_INVALID" and refused.value.fix
    assert key not in refused.value.message
    assert secrets.read_secret(str(path), "image.registry_password_file", "REGISTRY_PASSWORD") == key
