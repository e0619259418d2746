"""Secrets that are read here: from files that only their owner may read, and hidden from then on."""

from __future__ import annotations

import shlex
from pathlib import Path

from r1deploy.errors import ConfigError
from r1deploy.settings import redact


def read_secret(path: str, setting: str, code: str) -> str:
    """One line of a file. Raises ConfigError where it cannot be read, is empty, or is open to others."""
    file = Path(path).expanduser()
    try:
        mode = file.stat().st_mode & 0o777
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(code, f"{setting}: {error}", fix=f"put it into {file}, mode 0600") from None
    if mode & 0o077:
        raise ConfigError(
            code, f"{setting}: {file} is open to others (mode {mode:04o})", fix=f"chmod 0600 {shlex.quote(str(file))}"
        )
    if not text or len(text.splitlines()) > 1:
        raise ConfigError(code, f"{setting}: {file} must hold one line", fix=f"put the secret alone into {file}")
    redact.remember(text)
    return text


def api_key(path: str) -> str:
    """The API key of ``service.api_key_file``. Raises ConfigError API_KEY_MISSING, API_KEY_INVALID."""
    setting = "service.api_key_file"
    key = read_secret(path, setting, "API_KEY_MISSING")
    if not (key.isascii() and key.isprintable()):
        message = f"{setting}: {path} holds a character that no HTTP header can carry"
        fix = f"openssl rand -hex 32 > {shlex.quote(str(Path(path).expanduser()))}"
        raise ConfigError("API_KEY_INVALID", message, fix=fix)
    return key
