"""The annotated r1deploy.yaml that init writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from r1deploy.errors import ConfigError
from r1deploy.settings import example, profiles, schema, yamlfile
from r1deploy.settings.load import from_profile
from tests.settingsfiles import PROFILE, loaded


def uncommented(text: str) -> str:
    return "".join(re.sub(r"^( *)#(?! \S)", r"\1", line) for line in text.splitlines(keepends=True))


def keys(data: Mapping[str, object], above: schema.Path = ()) -> set[schema.Path]:
    found: set[schema.Path] = set()
    for key, value in data.items():
        path = (*above, key)
        found.add(path)
        node = schema.nodes().get(path)
        if isinstance(value, Mapping) and node is not None and node.kind == "section":
            found |= keys(value, path)
    return found


@pytest.mark.parametrize("name", profiles.names())
def test_example_changes_nothing(tmp_path: Path, name: str) -> None:
    text = example.annotated(name)
    found = loaded(tmp_path, text)
    assert found.settings == from_profile(name)
    assert yaml.safe_load(text) == yamlfile.parse(text, "x").data, "another YAML reader sees something else"
    kinds = {source.kind for path, source in found.sources.items() if path.startswith(("chip.", "disk."))}
    assert kinds <= {"profile", "default"}


@pytest.mark.parametrize("name", profiles.names())
def test_example_and_schema_are_the_same_both_ways(tmp_path: Path, name: str) -> None:
    text = uncommented(example.annotated(name))
    data = yaml.safe_load(text)
    assert keys(data) == set(schema.nodes())
    assert loaded(tmp_path, text).settings == from_profile(name)


@pytest.mark.parametrize("name", profiles.names())
def test_only_what_the_user_decides_is_live(name: str) -> None:
    """field.md 5.15: with every default written live, a better profile never reached old files."""
    data = yaml.safe_load(example.annotated(name))
    live = {path for path in keys(data) if schema.nodes()[path].kind != "section"}
    patched = from_profile(name).patch
    wanted = example.DECIDED - (set() if patched.encrypted and patched.backends else {("patch", "key_dir")})
    assert live == wanted
    assert all(data[section] is None for section in ("ssh", "chip", "disk", "site"))


def test_every_setting_is_explained() -> None:
    lines = example.annotated(PROFILE).splitlines()
    for path, node in schema.nodes().items():
        assert node.field.description, path
        at = [number for number, line in enumerate(lines) if line.endswith(f"# {node.field.description}")]
        assert any(re.match(rf"[ #]*{path[-1]}:", lines[number + 1]) for number in at), path


def test_example_of_an_unknown_profile() -> None:
    with pytest.raises(ConfigError) as caught:
        example.annotated("nobody")
    assert caught.value.code == "PROFILE_UNKNOWN"
