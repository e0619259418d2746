"""Settings that are refused: each by the name of its key, all at once; and whatever else comes in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from r1deploy.errors import ConfigError, ErrorCode, R1Error, UsageError
from r1deploy.settings import schema, sources, validation
from r1deploy.settings.load import leaves, load
from r1deploy.settings.model import Settings
from tests.settingsfiles import loaded, refused

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
