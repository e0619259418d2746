"""A settings file in a folder, loaded or refused: what the tests of settings share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from r1deploy.errors import ConfigError, ErrorCode
from r1deploy.settings.load import Loaded, load

PROFILE = "iluvatar-bi-v150"


def loaded(folder: Path, text: str | None = None, flags: Mapping[str, object] | None = None, **environ: str) -> Loaded:
    """Return the settings of ``folder``, with ``text`` as its r1deploy.yaml."""
    if text is not None:
        (folder / "r1deploy.yaml").write_text(text, encoding="utf-8")
    return load(folder, flags or {}, environ)


def refused(folder: Path, text: str | None = None, flags: Mapping[str, object] | None = None, **environ: str) -> str:
    """Return the message of the refusal."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, flags, **environ)
    assert caught.value.code in ErrorCode
    assert caught.value.fix
    return caught.value.message
