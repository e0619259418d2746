"""Settings and the lock file, whatever is in them: understood whole or refused by name."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from r1deploy.cluster.host import Host
from r1deploy.errors import ConfigError, ErrorCode, R1Error
from r1deploy.planning.release import Inputs, release_of
from r1deploy.render import Material, render
from r1deploy.settings import lockfile, profiles, schema, yamlfile
from r1deploy.settings.layers import value_from_text
from r1deploy.settings.load import Loaded, from_profile, leaves, load
from tests.fuzzing import edits, ours, quick

PROFILE = "iluvatar-bi-v150"
BASE = from_profile(PROFILE)
LEAVES = [path for path, node in schema.nodes().items() if node.kind == "leaf" and path != ("profile",)]
MAPPINGS = [path for path, node in schema.nodes().items() if node.kind == "mapping"]
# Texts that people read or that a shell of the container runs may have more than one line.
LONG = {
    ("service", "prompt"),
    ("vllm", "build"),
    ("vllm", "install"),
    ("env",),
    ("git", "instead_of"),
    ("chip", "smi_env"),
    ("weights", "env"),
}
KNOWN = dict(leaves(BASE))
TEXTS = st.text(max_size=10) | st.sampled_from(
    ["", " ", "a b", "a\nb", "a\0b", "-x", "--upload-pack=id", "true", "null", "1", "0x1", "1_000", "12:30", "/",
     "/a/../b", "auto", "é", "\x1b[31m", "\u2028", "~", "yes", "$(id)", "'", '"', "{", "[", "(", "(?P<a", "a: b", "- a"]
)  # fmt: skip
ATOMS = st.none() | st.booleans() | st.integers(-10, 10**6) | st.integers() | st.floats() | TEXTS
VALUES = ATOMS | st.lists(ATOMS, max_size=3)
KEYS = st.sampled_from(["A", "NCCL_DEBUG", "VLLM_API_KEY", "enforce_eager", "a.b", "https://x/"]) | TEXTS


@pytest.fixture(autouse=True, scope="module")
def profile_is_read_once() -> Iterator[None]:
    """The profile is no input here, and to read it takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "read", functools.cache(profiles.read))
        yield


@st.composite
def changes(draw: st.DrawFn) -> dict[tuple[str, ...], object]:
    """Some settings with values of any kind, many near to the right ones."""
    found: dict[tuple[str, ...], object] = {}
    for _ in range(draw(st.integers(1, 3))):
        path = draw(
            st.sampled_from(LEAVES) | st.tuples(st.sampled_from(MAPPINGS), KEYS).map(lambda pair: (*pair[0], pair[1]))
        )
        known = KNOWN.get(path)
        near = edits(st.just(known), ["", "\n", " ", "-", "/", "\0"]) if isinstance(known, str) else st.just(known)
        found[path] = draw(VALUES | near)
    return found


def nested(values: dict[tuple[str, ...], object]) -> dict[str, Any]:
    """Values by path as the mapping that YAML gives."""
    data: dict[str, Any] = {}
    for path, value in values.items():
        inner = data
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return data


def take(
    folder: Path, values: dict[tuple[str, ...], object] | None, flags: dict[str, object], **environ: str
) -> Loaded | None:
    """The settings, or None where they are refused in our own way."""
    path = folder / "r1deploy.yaml"
    path.unlink(missing_ok=True)
    if values is not None:
        path.write_bytes(yaml.safe_dump(nested(values), allow_unicode=True).encode("utf-8", "surrogatepass"))
    try:
        return load(folder, flags, environ)
    except R1Error as error:
        ours(error)
        return None


def one_line_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from one_line_texts(item)


HOSTS = (Host("node1", "10.0.0.1", 16, is_head=True), Host("node2", "10.0.0.2", 16))


@quick(100)
@given(changes())
def test_settings_that_are_taken_make_sense(tmp_path: Path, values: dict[tuple[str, ...], object]) -> None:
    found = take(tmp_path, values, {})
    if found is None:
        return
    for path, value in leaves(found.settings):
        if path in LONG or path[:-1] in LONG:
            continue
        for text in one_line_texts(value):
            assert text.isprintable(), f"{path}: {text!r}"
            may = path[0] in ("env", "service", "chip", "weights") or path == ("container", "pid")
            assert text != "" or may, f"{path} is empty"
    # All that was taken can be written, and says the same when it is read again.
    dumped = {path: value for path, value in leaves(found.settings) if not (value == {} and path in MAPPINGS)}
    gone = {path: None for path in KNOWN if path[:-1] in MAPPINGS and path not in dumped}
    again = take(tmp_path, {**gone, **dumped}, {})
    assert again is not None and again.settings == found.settings
    inputs = Inputs(None, "a" * 40, "b" * 40, {})
    release = release_of(found.settings, inputs)
    rendered = render(Material(found.settings, HOSTS, release, inputs, {"node1": "eth0", "node2": "eth1"}))
    for name, data in rendered.files["node1"].items():
        if name.endswith(".yaml"):
            document = yaml.safe_load(data)
            if name.startswith("serve/"):
                arguments = document[0]["engine_args"]
                assert arguments["served_model_name"] == found.settings.engine.served_model_name
                assert arguments["port"] == found.settings.engine.port


@quick(80)
@given(st.sampled_from(LEAVES), VALUES)
def test_a_setting_means_the_same_from_every_source(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    dotted = ".".join(path)
    by_file = take(tmp_path, {path: value}, {})
    by_flag = take(tmp_path, None, {dotted: value})
    assert (by_file is None) == (by_flag is None)
    assert by_file is None or by_flag is None or by_file.settings == by_flag.settings
    text = value if isinstance(value, str) else json.dumps(value)
    name = "R1DEPLOY_" + "__".join(path).upper()
    by_environment = take(tmp_path, None, {}, **{name: text})
    by_set = take(tmp_path, None, {dotted: value_from_text(dotted, text)})
    assert (by_environment is None) == (by_set is None)
    assert by_environment is None or by_set is None or by_environment.settings == by_set.settings
    if by_file is not None and isinstance(value, int | float | list | bool):
        assert by_environment is not None and by_environment.settings == by_file.settings


@quick(150)
@given(edits(st.just("engine:\n  port: 9010\n  extra: {enforce_eager: true}\nenv:\n  A: b\n"),
             ["\n", "  ", "\t", ":", "- ", "{", "}", "[", "&a ", "*a", "<<: *a", "!!python/name:os.system ",
              "!!int ", "|\n", "#", "'", '"', "---\n", "...", "%YAML 9.9\n", "?", "\ufeff", "\x85", "\x1b", "~",
              "port: 1\n"]))  # fmt: skip
def test_settings_file_by_its_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "r1deploy.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = load(tmp_path, {}, {})
    except R1Error as error:
        ours(error)
    else:
        # Each value says where it comes from, and is what a plain YAML reader finds there.
        document = yamlfile.parse(text, "r1deploy.yaml").data
        for path, value in leaves(found.settings):
            source = found.sources[".".join(path)]
            if source.kind == "file":
                inner: Any = document
                for key in path:
                    inner = inner[key]
                assert inner == value or value == {}


@quick(100)
@given(
    st.text(),
    st.sampled_from(["engine.port", "engine.extra", "engine.trust_remote_code", "env.A", "image.name", "ssh"]),
)
def test_set_on_the_command_line(tmp_path: Path, text: str, path: str) -> None:
    from r1deploy.cli.app import flags_of

    take(tmp_path, None, flags_of([f"{path}={text}"]))
    try:
        flags_of([text])
    except R1Error as error:
        assert error.code in ErrorCode and "=" not in text


# The lock file

HEX = "0123456789abcdef" * 4
LOCK = f"""version: 1
flaggems: {{url: 'https://example.org/a.git', ref: main, commit: {HEX[:40]}}}
patch:
  commit: {HEX[:40]}
  ciphertexts: {{a/b.encrypted: {HEX}}}
image: {{name: 'baai:v5', id: 'sha256:{HEX}', tarball_sha256: {HEX}}}
"""
LOCKS = edits(
    st.just(LOCK),
    [
        "\n",
        " ",
        ":",
        "'",
        "null",
        "1",
        "[]",
        "{}",
        "0",
        "G",
        "\0",
        "\x1b",
        "ab",
        "version: 1\n",
        "<<<<<<< x\n",
        "!!binary ",
    ],
)


@quick(150)
@given(LOCKS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary())
def test_lock_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r1deploy.lock"
    path.write_bytes(data)
    try:
        lock = lockfile.read(path)
    except ConfigError as error:
        assert error.code == "LOCK_INVALID"
        ours(error)
        return
    for part in (lock.flaggems, lock.flagscale, lock.patch):
        assert part is None or re.fullmatch(r"[0-9a-f]{40}", part.commit)
    for digest in (lock.patch.ciphertexts if lock.patch else {}).values():
        assert re.fullmatch(r"[0-9a-f]{64}", digest)
    lockfile.write(path, lock)
    again = lockfile.read(path)
    first = path.read_bytes()
    lockfile.write(path, again)
    assert path.read_bytes() == first
    assert (again.patch, again.image) == (lock.patch, lock.image)
