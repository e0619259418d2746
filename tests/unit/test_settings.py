"""Settings: precedence of their sources, the profiles, the volumes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from r1deploy.settings import profiles, redact, sources, volumes
from r1deploy.settings.layers import value_from_text
from r1deploy.settings.load import from_profile, leaves, load
from r1deploy.settings.volumes import weights_host_path
from tests.settingsfiles import PROFILE, loaded, refused

# Sources and merging


def test_profile_alone(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    assert found.path is None
    assert found.settings == from_profile(PROFILE)
    assert found.settings.engine.port == 9010
    assert found.sources["engine.port"].kind == "profile"
    assert re.fullmatch(rf"profile {PROFILE}\.yaml:\d+", found.sources["engine.port"].where)
    assert found.sources["vllm.timeout"].kind == "default"
    assert found.sources["env.USE_FLAGGEMS"].kind == "profile"


def test_each_source_beats_the_next(tmp_path: Path) -> None:
    text = "\n\nengine:\n  port: 2\n"
    assert loaded(tmp_path, text).settings.engine.port == 2
    assert loaded(tmp_path, text, R1DEPLOY_ENGINE__PORT="3").settings.engine.port == 3
    found = loaded(tmp_path, text, {"engine.port": 4}, R1DEPLOY_ENGINE__PORT="3")
    assert found.settings.engine.port == 4


@pytest.mark.parametrize(
    ("flags", "environ", "kind", "where"),
    [
        ({}, {}, "file", "r1deploy.yaml:2"),
        ({}, {"R1DEPLOY_ENGINE__PORT": "3"}, "environment", "R1DEPLOY_ENGINE__PORT"),
        ({"engine.port": 4}, {"R1DEPLOY_ENGINE__PORT": "3"}, "flag", "command line"),
    ],
)
def test_source_is_told(
    tmp_path: Path, flags: dict[str, object], environ: dict[str, str], kind: str, where: str
) -> None:
    source = loaded(tmp_path, "engine:\n  port: 2\n", flags, **environ).sources["engine.port"]
    assert (source.kind, source.where) == (kind, where)


def test_every_value_has_a_source(tmp_path: Path) -> None:
    found = loaded(tmp_path, "engine: {extra: {seed: 1}}\n")
    assert set(found.sources) == {".".join(path) for path, _ in leaves(found.settings)}


def test_rows_are_all_values_without_secrets(tmp_path: Path) -> None:
    text = (
        "env: {HF_TOKEN: hunter2}\nflaggems: {url: 'https://me:hunter2@git.example/x'}\n"
        "git: {instead_of: {'https://a:hunter2@x/': 'https://b:hunter2@y/'}}\nservice: {api_key_file: key}\n"
    )
    rows = sources.rows(loaded(tmp_path, text))
    assert "hunter2" not in repr(rows)
    values = {path: (value, kind, where) for path, value, kind, where in rows}
    assert values["env.HF_TOKEN"] == (redact.HIDDEN, "file", "r1deploy.yaml:1")
    assert values["service.api_key_file"][0] == str(tmp_path / "key")
    assert values["service.max_tokens"] == (64, "default", "built in")
    assert values["engine.extra"][0] == {}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "ssh:\nenv:\nengine:\n", "{}"])
def test_nothing_said_is_the_profile(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).settings == from_profile(PROFILE)


def test_lists_replace_and_mappings_merge(tmp_path: Path) -> None:
    text = "container: {cap_add: [SYS_PTRACE]}\nenv: {USE_FLAGGEMS: null, NEW: a, NOT_THERE: null}\n"
    found = loaded(tmp_path, text).settings
    assert found.container.cap_add == ["SYS_PTRACE"]
    before = from_profile(PROFILE).env
    assert found.env == {key: value for key, value in before.items() if key != "USE_FLAGGEMS"} | {"NEW": "a"}


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("R1DEPLOY_CLUSTER", "123", "cluster", "123"),
        ("R1DEPLOY_SLOTS", "8", "slots", 8),
        ("R1DEPLOY_CONTAINER__TTY", "false", "container.tty", False),
        ("R1DEPLOY_CONTAINER__CAP_ADD", "[A, B]", "container.cap_add", ["A", "B"]),
        ("R1DEPLOY_ENGINE__GPU_MEMORY_UTILIZATION", "0.5", "engine.gpu_memory_utilization", 0.5),
        ("R1DEPLOY_ENV__NCCL_DEBUG", "0777", "env.NCCL_DEBUG", "0777"),
        ("R1DEPLOY_ENV__A__B", "x", "env.A__B", "x"),
        ("R1DEPLOY_ENGINE__EXTRA__seed", "7", "engine.extra.seed", 7),
        ("R1DEPLOY_SSH__USER", "", "ssh.user", None),
        ("R1DEPLOY_SSH__PORT", "null", "ssh.port", None),
    ],
)
def test_environment(tmp_path: Path, name: str, value: str, path: str, expected: object) -> None:
    found = {".".join(where): item for where, item in leaves(loaded(tmp_path, None, None, **{name: value}).settings)}
    assert found[path] == expected
    assert value_from_text(path, value) == expected


@pytest.mark.parametrize("text", ["", "null"])
@pytest.mark.parametrize(
    "path", ["image.tarball", "image.sha256", "ssh.key_file", "ssh.port", "builder", "patch.key_dir", "ssh.jump"]
)
def test_nothing_and_null_unset_what_may_be_null(tmp_path: Path, path: str, text: str) -> None:
    """field.md 5.6: ``--set image.tarball=`` was ignored, ``=null`` was the path FOLDER/null."""
    section = "".join(f"{'  ' * deep}{name}:\n" for deep, name in enumerate(path.split(".")[:-1]))
    value = 7 if path == "ssh.port" else "a" * 64
    written = f"{section}{'  ' * path.count('.')}{path.split('.')[-1]}: {value}\n"
    flags = {path: value_from_text(path, text)}
    for found in (loaded(tmp_path, written, flags), loaded(tmp_path, written, **variable(path, text))):
        assert {".".join(where): item for where, item in leaves(found.settings)}[path] is None
        assert found.sources[path].kind in ("flag", "environment")


@pytest.mark.parametrize("text", ["", "null"])
@pytest.mark.parametrize("path", ["engine.port", "slots", "engine.gpu_memory_utilization", "container.volumes", "env"])
def test_nothing_and_null_are_refused_by_name_where_a_value_is_needed(tmp_path: Path, path: str, text: str) -> None:
    """field.md 5.6: ``--set engine.port=`` was ignored."""
    for said in (
        refused(tmp_path, None, {path: value_from_text(path, text)}),
        refused(tmp_path, None, **variable(path, text)),
    ):
        assert f"{path}: " in said and "is expected, not null" in said


@pytest.mark.parametrize("path", ["cluster", "image.name", "flaggems.ref"])
def test_no_text_where_one_is_needed_is_refused_by_name(tmp_path: Path, path: str) -> None:
    assert f"{path}: " in refused(tmp_path, None, {path: value_from_text(path, "")})


def test_null_removes_a_key_of_a_mapping_from_everywhere(tmp_path: Path) -> None:
    for found in (
        loaded(tmp_path, None, {"env.USE_FLAGGEMS": value_from_text("env.USE_FLAGGEMS", "null")}),
        loaded(tmp_path, None, R1DEPLOY_ENV__USE_FLAGGEMS="null"),
    ):
        assert "USE_FLAGGEMS" not in found.settings.env
    assert loaded(tmp_path, None, R1DEPLOY_ENV__USE_FLAGGEMS="").settings.env["USE_FLAGGEMS"] == ""


def variable(path: str, text: str) -> dict[str, str]:
    return {f"R1DEPLOY_{path.upper().replace('.', '__')}": text}


def test_environment_of_others_is_ignored(tmp_path: Path) -> None:
    environ = {"R1DEPLOY_LAB_DIR": "/x", "R1DEPLOY_LAB_REQUIRED": "1", "PATH": "/bin", "XR1DEPLOY_SLOTS": "3"}
    assert load(tmp_path, {}, environ).settings == from_profile(PROFILE)


def test_flags_reach_keys_with_dots_and_take_paths(tmp_path: Path) -> None:
    flags = {
        "git.instead_of.https://github.com/": "file:///mirror/",
        "image.tarball": Path("a.tar"),
        "patch.backends": ("vllm",),
    }
    found = loaded(tmp_path, None, flags).settings
    assert found.git.instead_of == {"https://github.com/": "file:///mirror/"}
    assert found.image.tarball == str(tmp_path / "a.tar")
    assert found.patch.backends == ["vllm"]


def test_paths_start_at_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = "image: {tarball: ../i.tar}\nssh: {key_file: ~/.ssh/id, known_hosts: /etc/kh}\npatch: {key_dir: key}\n"
    found = loaded(tmp_path, text).settings
    assert found.image.tarball == str(tmp_path.parent / "i.tar")
    assert found.ssh.key_file == "/home/me/.ssh/id"
    assert found.ssh.known_hosts == "/etc/kh"
    assert found.patch.key_dir == str(tmp_path / "key")
    assert found.service.api_key_file is None


def test_a_byte_order_mark_and_crlf_are_fine(tmp_path: Path) -> None:
    (tmp_path / "r1deploy.yaml").write_bytes(b"\xef\xbb\xbfslots: 8\r\nenv:\r\n  A: b\r\n")
    found = load(tmp_path, {}, {}).settings
    assert (found.slots, found.env["A"]) == (8, "b")


# Profiles


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_stands_alone(name: str) -> None:
    assert from_profile(name).profile == name


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    data = yaml.safe_load((Path(profiles.__file__).parent / "profiles" / f"{PROFILE}.yaml").read_text(encoding="utf-8"))
    data["slots"] = 4
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    found = loaded(tmp_path, "profile: mine.yaml\n")
    assert found.settings.slots == 4
    assert found.sources["slots"].where.startswith("mine.yaml:")


def test_a_profile_in_parts_is_refused_by_key(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("slots: 4\nprofile: x\nenginee: 1\n", encoding="utf-8")
    message = refused(tmp_path, "profile: mine.yaml\n")
    for part in (
        "mine.yaml:2: profile",
        "mine.yaml:3: enginee",
        "image.name: must be given",
        "chip.smi: must be given",
    ):
        assert part in message


# Volumes


@pytest.mark.parametrize(
    ("listed", "model", "expected"),
    [
        (["/mnt/share:/data1"], "/data1/models/x", "/mnt/share/models/x"),
        (["/mnt/share/:/data1/:ro"], "/data1", "/mnt/share"),
        (["/a:/data1", "/b:/data1/models"], "/data1/models/x", "/b/x"),
        (["/:/host"], "/host/w", "/w"),
        (["/a:/data1"], "/data10/x", None),
        (["/a:/data1"], "/data1/../etc", None),
    ],
)
def test_weights_host_path(listed: list[str], model: str, expected: str | None) -> None:
    given_settings = from_profile(PROFILE)
    settings = given_settings.model_copy(
        update={
            "container": given_settings.container.model_copy(update={"volumes": listed}),
            "engine": given_settings.engine.model_copy(update={"model": model}),
        }
    )
    assert weights_host_path(settings) == expected


@pytest.mark.parametrize("text", ["", "/a", "a:/b", "/a:b", "/a:/", "/a:/b:rw:z", "/a/../b:/c", "/a b:/c"])
def test_no_volume(text: str) -> None:
    assert volumes.parse(text) is None
