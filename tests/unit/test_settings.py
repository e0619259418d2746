"""Settings: precedence, refusals that name the key, the profile, the example and the lock file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from r1deploy.errors import ConfigError, ErrorCode, R1Error, UsageError
from r1deploy.settings import example, lockfile, profiles, redact, schema, sources, validation, volumes, yamlfile
from r1deploy.settings.load import Loaded, from_profile, leaves, load, value_from_text, weights_host_path
from r1deploy.settings.model import Settings

PROFILE = "iluvatar-bi-v150"


def loaded(folder: Path, text: str | None = None, flags: Mapping[str, object] | None = None, **environ: str) -> Loaded:
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


# Refusals

BAD: list[tuple[str, str, list[str]]] = [
    ("engine:\n  prot: 1\n", "SETTINGS_UNKNOWN_KEY", ["r1deploy.yaml:2: engine.prot", "did you mean engine.port?"]),
    ("port: 1\n", "SETTINGS_UNKNOWN_KEY", ["did you mean ssh.port or engine.port?"]),
    ("tty: true\n", "SETTINGS_UNKNOWN_KEY", ["did you mean container.tty?"]),
    ("container: {shm-size: 1g}\n", "SETTINGS_UNKNOWN_KEY", ["did you mean container.shm_size?"]),
    ("zzz: 1\n", "SETTINGS_UNKNOWN_KEY", ["zzz: unknown key"]),
    ("1: 2\n", "SETTINGS_UNKNOWN_KEY", ["r1deploy.yaml:1: 1: unknown key"]),
    ("container:\n  tty: 'False'\n", "SETTINGS_VALUE", ["r1deploy.yaml:2: container.tty", "'False'", "write false"]),
    ("container: {tty: yes}\n", "SETTINGS_VALUE", ["true or false", "write true"]),
    ("container: {tty: 1}\n", "SETTINGS_VALUE", ["true or false is expected, not 1"]),
    ("engine: {port: 70000}\n", "SETTINGS_VALUE", ["engine.port", "70000", "at most 65535"]),
    ("engine: {port: 0}\n", "SETTINGS_VALUE", ["at least 1"]),
    ("engine: {port: '9010'}\n", "SETTINGS_VALUE", ["a whole number", "without quotes"]),
    ("engine: {port: 1.5}\n", "SETTINGS_VALUE", ["a whole number is expected, not 1.5"]),
    ("engine: {port: true}\n", "SETTINGS_VALUE", ["a whole number is expected, not true"]),
    ("engine: {port: null}\n", "SETTINGS_VALUE", ["a whole number is expected, not null"]),
    ("engine: {gpu_memory_utilization: 1.1}\n", "SETTINGS_VALUE", ["at most 1"]),
    ("engine: {gpu_memory_utilization: 0}\n", "SETTINGS_VALUE", ["above 0"]),
    ("engine: {gpu_memory_utilization: .nan}\n", "SETTINGS_VALUE", ["gpu_memory_utilization"]),
    ("engine: {gpu_memory_utilization: '0.8'}\n", "SETTINGS_VALUE", ["a number is expected", "without quotes"]),
    ("env: {USE_FLAGGEMS: true}\n", "SETTINGS_VALUE", ["env.USE_FLAGGEMS", 'in quotes: "true"']),
    ("env:\n  A: 1\n", "SETTINGS_VALUE", ["r1deploy.yaml:2: env.A", 'in quotes: "1"']),
    ("env: [A=1]\n", "SETTINGS_VALUE", ["env: lines of `key: value`"]),
    ("env: {1: a}\n", "SETTINGS_VALUE", ["a key of text"]),
    ("engine: 3\n", "SETTINGS_VALUE", ["engine: lines of `key: value`"]),
    ("container: {cap_add: ALL}\n", "SETTINGS_VALUE", ["a list is expected", "[item]"]),
    ("container: {cap_add: [ALL, 3]}\n", "SETTINGS_VALUE", ["container.cap_add[1]", "text is expected, not 3"]),
    ("chip: {smi: []}\n", "SETTINGS_VALUE", ["chip.smi", "not empty"]),
    ("patch: {commit: abc}\n", "SETTINGS_VALUE", ["patch.commit", "[0-9a-f]{40}"]),
    ("cluster: 'a b'\n", "SETTINGS_VALUE", ["cluster", "text of the form"]),
    ("engine: {extra: {seed: [1]}}\n", "SETTINGS_VALUE", ["engine.extra.seed", "true or false or a number or text"]),
    ("profile: 3\n", "SETTINGS_VALUE", ["profile: text is expected"]),
    ("profile: iluvatar\n", "PROFILE_UNKNOWN", ["'iluvatar' is unknown"]),
    ("profile: mine.yaml\n", "PROFILE_UNKNOWN", ["there is no file", "mine.yaml"]),
    ("image: {tarball: ''}\n", "SETTINGS_VALUE", ["image.tarball", "no path"]),
    # settings against each other
    ("engine: {extra: {max-model-len: 3}}\n", "SETTINGS_VALUE", ["set engine.max_model_len instead"]),
    ("engine: {extra: {api_key: x}}\n", "SETTINGS_VALUE", ["service.api_key_file"]),
    ("engine: {extra: {--seed: 1}}\n", "SETTINGS_VALUE", ["without the leading dashes"]),
    ("engine: {extra: {a-b: 1, a_b: 2}}\n", "SETTINGS_VALUE", ["same argument as a-b"]),
    ("engine: {extra: {x: false}}\n", "SETTINGS_VALUE", ["drops"]),
    ("engine: {extra: {x: .inf}}\n", "SETTINGS_VALUE", ["finite"]),
    ("env: {A-B: x}\n", "SETTINGS_VALUE", ["env.A-B", "no name of an environment variable"]),
    ("env: {VLLM_HOST_IP: 10.0.0.1}\n", "SETTINGS_VALUE", ["every host"]),
    ("service: {envs: {VLLM_API_KEY: x}}\n", "SETTINGS_VALUE", ["service.api_key_file"]),
    ("service: {envs: {A: 'b c'}}\n", "SETTINGS_VALUE", ["put it into env"]),
    ("container: {volumes: ['/mnt/share:/data1', 'data:/x']}\n", "SETTINGS_VALUE", ["container.volumes[1]"]),
    ("container: {volumes: ['/a:/data1', '/b:/data1/']}\n", "SETTINGS_VALUE", ["mounted already by volumes[0]"]),
    ("container: {volumes: ['/a:/data1:xx']}\n", "SETTINGS_VALUE", ["is no volume"]),
    ("engine: {model: /data10/x}\n", "SETTINGS_VALUE", ["engine.model", "lies in no volume", "/data1"]),
    ("state_dir: /\n", "SETTINGS_VALUE", ["state_dir", "below /"]),
    ("state_dir: /a/../b\n", "SETTINGS_VALUE", ["state_dir"]),
    ("chip: {smi_version_pattern: '('}\n", "SETTINGS_VALUE", ["not a regular expression"]),
    # what ends as a word of a command line (field.md 2.14)
    ("ssh: {jump: -Ffile}\n", "SETTINGS_VALUE", ["ssh.jump", "text of the form"]),
    ("ssh: {jump: -Ffile@bastion}\n", "SETTINGS_VALUE", ["ssh.jump", "text of the form"]),
    ("ssh: {jump: ops@-Ffile}\n", "SETTINGS_VALUE", ["ssh.jump", "text of the form"]),
    ("ssh: {user: -Ffile}\n", "SETTINGS_VALUE", ["ssh.user", "begins with a dash"]),
    ("image: {name: -v}\n", "SETTINGS_VALUE", ["image.name", "begins with a dash"]),
    (
        "image: {registry_user: -p, registry_password_file: /x}\n",
        "SETTINGS_VALUE",
        ["image.registry_user", "begins with a dash"],
    ),
    ("flagscale: {ref: --all}\n", "SETTINGS_VALUE", ["flagscale.ref", "begins with a dash"]),
    ("patch: {backends: [FlagScale, --all]}\n", "SETTINGS_VALUE", ["patch.backends[1]", "begins with a dash"]),
    ("patch: {task: --all}\n", "SETTINGS_VALUE", ["patch.task", "begins with a dash"]),
    ("weights: {repo: -x/y}\n", "SETTINGS_VALUE", ["weights.repo", "begins with a dash"]),
    ("weights: {revision: -x}\n", "SETTINGS_VALUE", ["weights.revision", "begins with a dash"]),
    # YAML
    ("slots: 1\nslots: 2\n", "SETTINGS_YAML", ["r1deploy.yaml:2", "'slots' is there twice"]),
    ("env:\n  A: x\n  B: y\n  A: z\n", "SETTINGS_YAML", ["r1deploy.yaml:4", "'A' is there twice"]),
    ("a: [\n", "SETTINGS_YAML", ["not YAML"]),
    ("\tslots: 1\n", "SETTINGS_YAML", ["r1deploy.yaml:1"]),
    ("- slots\n", "SETTINGS_YAML", ["key: value"]),
    ("slots\n", "SETTINGS_YAML", ["key: value"]),
    ("a: !!python/object:os.system x\n", "SETTINGS_YAML", ["not YAML"]),
    ("a: !!timestamp x\n", "SETTINGS_YAML", ["not YAML"]),
    ("? [a]\n: b\n", "SETTINGS_YAML", ["not YAML"]),
    ("slots: 1\n---\nslots: 2\n", "SETTINGS_YAML", ["not YAML"]),
    ("a: " + "[" * 5000, "SETTINGS_YAML", ["nested too deeply"]),
    ("slots: " + "9" * 5000, "SETTINGS_YAML", ["not YAML"]),
]


@pytest.mark.parametrize(("text", "code", "says"), BAD, ids=[text[:40] for text, _, _ in BAD])
def test_refused(tmp_path: Path, text: str, code: str, says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert caught.value.code == code
    assert [part for part in says if part not in caught.value.message] == []
    assert caught.value.fix or code == "SETTINGS_YAML"
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("env: {A: 2024-01-01}\n", "env.A", "2024-01-01"),
        ("env: {A: 12:30}\n", "env.A", "12:30"),
        ("env: {A: off}\n", "env.A", "off"),
        ("env: {A: 0777}\n", "env.A", "0777"),
        ("env: {A: 1_000}\n", "env.A", "1_000"),
        ("engine: {extra: {x: 1e3}}\n", "engine.extra.x", 1000.0),
        ("engine: {gpu_memory_utilization: 1}\n", "engine.gpu_memory_utilization", 1.0),
        ("container: {tty: False}\n", "container.tty", False),
        ("env: &e {A: x}\ngit: {instead_of: *e}\n", "git.instead_of.A", "x"),
    ],
)
def test_yaml_without_surprises(tmp_path: Path, text: str, path: str, expected: object) -> None:
    found = {".".join(where): item for where, item in leaves(loaded(tmp_path, text).settings)}
    assert found[path] == expected


def test_all_problems_in_one_go(tmp_path: Path) -> None:
    text = "engine: {prot: 1, max_num_seqs: 0}\nenv: {A: 1}\ncontainer: {tty: 'no'}\n"
    message = refused(tmp_path, text, {"slotz": 1}, R1DEPLOY_SSH__PORT="x", R1DEPLOY_ENIGNE__PORT="1")
    paths = ("engine.prot", "engine.max_num_seqs", "env.A", "container.tty", "slotz", "ssh.port", "enigne.port")
    assert [path for path in paths if f"{path}: " not in message] == []
    assert message.startswith("the settings have 7 problems\n")


def test_checks_across_settings_run_beside_wrong_types(tmp_path: Path) -> None:
    message = refused(tmp_path, "slots: x\nenv: {A-B: c}\n")
    assert "slots: a whole number" in message and "env.A-B" in message


def test_wrong_volumes_do_not_blame_the_model(tmp_path: Path) -> None:
    assert "engine.model" not in refused(tmp_path, "container: {volumes: 3}\nengine: {model: /x/y}\n")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("R1DEPLOY_CONTAINER__TTY", "False", ["R1DEPLOY_CONTAINER__TTY: container.tty", "write false"]),
        ("R1DEPLOY_SLOT", "1", ["R1DEPLOY_SLOT: slot: unknown key; did you mean slots?"]),
        ("R1DEPLOY_ENGINE", "1", ["a section; set one of engine.model"]),
        ("R1DEPLOY_ENV", "1", ["R1DEPLOY_ENV: env: {KEY: value}"]),
        ("R1DEPLOY_SLOTS", "[", ["slots: a whole number"]),
        ("R1DEPLOY_", "1", ["unknown key"]),
        ("R1DEPLOY_SLOTS__X", "1", ["unknown key"]),
    ],
)
def test_environment_refused(tmp_path: Path, name: str, value: str, says: list[str]) -> None:
    message = refused(tmp_path, None, None, **{name: value})
    assert [part for part in says if part not in message] == []


def test_secrets_are_not_in_refusals(tmp_path: Path) -> None:
    text = (
        "flaggems: {url: ['https://me:hunter2@x']}\nenv: {HF_TOKEN: [hunter2]}\nengine: {extra: {api_key: hunter2}}\n"
    )
    assert "hunter2" not in refused(tmp_path, text)


def test_huge_aliases_are_harmless(tmp_path: Path) -> None:
    text = "x0: &a0 [z, z]\n" + "".join(f"x{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    assert len(refused(tmp_path, text + "container: {tty: *a59, name: &r [*r]}\n")) < 20_000


def test_wrong_extension_and_wrong_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "none", {}, {})
    assert caught.value.code == "SETTINGS_MISSING"
    (tmp_path / "r1deploy.yml").touch()
    with pytest.raises(UsageError) as caught:
        load(tmp_path, {}, {})
    assert "r1deploy.yaml" in (caught.value.fix or "")


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "r1deploy.yaml").mkdir()
    assert "cannot read r1deploy.yaml" in refused(tmp_path)


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


# The example


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


# The lock file

HEX = "0123456789" * 4
SHA = "ab" * 32
LOCK = lockfile.Lock(
    flaggems=lockfile.LockedSource(url="https://git.example/a.git", ref="main", commit=HEX),
    flagscale=lockfile.LockedSource(url="git@git.example:b.git", ref=HEX, commit=HEX),
    patch=lockfile.LockedPatch(commit=HEX, ciphertexts={"b/y": SHA, "a/x": SHA}),
    image=lockfile.LockedImage(name="baai:v5", id=f"sha256:{SHA}", tarball_sha256=SHA),
)


@pytest.mark.parametrize("lock", [LOCK, lockfile.Lock(), lockfile.Lock(image=lockfile.LockedImage(name="x"))])
def test_lock_round_trip(tmp_path: Path, lock: lockfile.Lock) -> None:
    path = tmp_path / lockfile.FILE_NAME
    lockfile.write(path, lock)
    first = path.read_bytes()
    assert lockfile.read(path) == lock
    lockfile.write(path, lock)
    assert path.read_bytes() == first
    assert first.startswith(b"# ") and b"null" not in first
    assert [item.name for item in tmp_path.iterdir()] == [lockfile.FILE_NAME]
    assert path.stat().st_mode & 0o777 == 0o644


def test_lock_is_sorted(tmp_path: Path) -> None:
    lockfile.write(tmp_path / "l", LOCK)
    text = (tmp_path / "l").read_text(encoding="utf-8")
    assert text.index("a/x") < text.index("b/y")
    assert text.index("flaggems:") < text.index("image:") < text.index("version: 1")


def test_no_lock(tmp_path: Path) -> None:
    assert lockfile.read(tmp_path / "none") is None


def test_no_login_in_the_lock(tmp_path: Path) -> None:
    source = lockfile.LockedSource(url="https://me:hunter2@git.example/a.git", ref="main", commit=HEX)
    lockfile.write(tmp_path / "l", lockfile.Lock(flaggems=source))
    assert "https://git.example/a.git" in (tmp_path / "l").read_text(encoding="utf-8")
    assert "hunter2" not in (tmp_path / "l").read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l"
    lockfile.write(path, LOCK)

    def broken(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(ConfigError) as caught:
        lockfile.write(path, lockfile.Lock())
    assert caught.value.code == "LOCK_WRITE"
    assert lockfile.read(path) == LOCK
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "version"),
        ("version: 2\n", "version"),
        ("version: true\n", "version"),
        ("version: 1\nother: 1\n", ":2: other"),
        ("version: 1\nflaggems: {url: x, ref: y, commit: abc}\n", "flaggems.commit"),
        ("version: 1\npatch: {commit: '" + HEX + "', ciphertexts: {a: b}}\n", "ciphertexts.a"),
        ("version: 1\nimage: {name: x, id: abc}\n", "image.id"),
        ("version: 1\nversion: 1\n", "twice"),
        ("<<<<<<< HEAD\nversion: 1\n=======\n", "not YAML"),
        ("[1]\n", "key: value"),
    ],
)
def test_bad_lock(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "r1deploy.lock"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        lockfile.read(path)
    assert caught.value.code == "LOCK_INVALID"
    assert says in caught.value.message and str(path) in caught.value.message


# Fuzz: nothing but an R1Error, whatever comes in

dotted = st.sampled_from(sorted(".".join(path) for path in schema.nodes()))
atoms = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
values = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(atoms, inner, max_size=3))
trees = st.dictionaries(
    st.sampled_from(schema.children(())) | st.text(max_size=6),
    values | st.dictionaries(st.sampled_from(sorted({path[-1] for path in schema.nodes()})) | st.text(), values),
    max_size=5,
)


def survives(folder: Path, data: bytes | None, flags: Mapping[str, object], environ: Mapping[str, str]) -> None:
    path = folder / "r1deploy.yaml"
    path.unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)
    try:
        found = load(folder, flags, environ)
    except R1Error as error:
        assert error.code in ErrorCode
        assert error.message.encode("utf-8")
    else:
        assert isinstance(found.settings, Settings)
        assert not list(validation.findings(found.settings))
        assert len(sources.rows(found)) == len(found.sources)


quick = fuzz(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@quick
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_file(tmp_path: Path, data: bytes) -> None:
    survives(tmp_path, data, {}, {})


@quick
@given(trees)
def test_any_tree(tmp_path: Path, tree: dict[str, object]) -> None:
    survives(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"), {}, {})


@quick
@given(st.dictionaries(dotted | st.text(), values, max_size=4))
def test_any_flags(tmp_path: Path, flags: dict[str, object]) -> None:
    survives(tmp_path, None, flags, {})


@quick
@given(st.dictionaries((dotted | st.text()).map(lambda name: name.upper().replace(".", "__")), st.text(), max_size=4))
def test_any_environment(tmp_path: Path, environ: dict[str, str]) -> None:
    survives(tmp_path, None, {}, {f"R1DEPLOY_{name}": value for name, value in environ.items()})
