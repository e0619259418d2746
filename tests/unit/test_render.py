"""What render() writes: quoting, interfaces, YAML that parses, and a name that changes with every input."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from r1deploy.cluster.host import Host
from r1deploy.planning.recorded import Record
from r1deploy.planning.release import Inputs, Release, release_of
from r1deploy.render import Material, Rendered, recognized, render
from r1deploy.settings.load import from_profile
from r1deploy.settings.model import Settings

HOSTS = (Host("node1", "10.0.0.1", 16, is_head=True), Host("node2", "10.0.0.2", 16), Host("node3", "10.0.0.3", 16))
NICS = {"node1": "eth0", "node2": "bond0.7", "node3": "ens3f0"}
PROFILE = from_profile("iluvatar-bi-v150")


def settings_of(**sections: dict[str, Any]) -> Settings:
    data = PROFILE.model_dump()
    for name, values in sections.items():
        data[name] = {**data[name], **values}
    return Settings.model_validate(data)


INPUTS = Inputs("sha256:" + "1" * 64, "2" * 40, "3" * 40, {})


def release(wanted: Settings = PROFILE) -> Release:
    return release_of(wanted, INPUTS)


def rendered(
    wanted: Settings = PROFILE, hosts: tuple[Host, ...] = HOSTS, nics: Any = None, api_key: str | None = None
) -> Rendered:
    return render(Material(wanted, hosts, release(wanted), INPUTS, NICS if nics is None else nics, api_key))


def exported(data: bytes, names: list[str]) -> list[str]:
    """Values as bash has them after it sourced a file."""
    shown = " ".join(f'"${{{name}-UNSET}}"' for name in names)
    script = f"source /dev/stdin; printf '%s\\0' {shown}"
    done = subprocess.run(["bash", "-euc", script], input=data, env={}, capture_output=True, timeout=20, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


def test_files_of_head_and_workers() -> None:
    found = rendered()
    assert sorted(found.files["node1"]) == [
        "config_deepseek_r1.yaml",
        "env.sh",
        "hostfile.txt",
        "release.json",
        "serve/deepseek_r1.yaml",
    ]
    assert list(found.files["node2"]) == list(found.files["node3"]) == ["env.sh", "release.json"]
    assert {file.mode for files in found.wanted().values() for name, file in files.items() if name == "env.sh"} == {
        "0600"
    }
    assert found.wanted()["node1"]["hostfile.txt"].mode == "0644"


def test_env_of_a_worker_word_for_word() -> None:
    assert rendered().files["node2"]["env.sh"].decode().splitlines() == [
        "# Environment of node2, read by before_start on this node. Written by r1deploy.",
        "export TRITON_CACHE_DIR=/cache",
        "export USE_FLAGGEMS=true",
        "export NCCL_SOCKET_IFNAME==bond0.7",
        "export GLOO_SOCKET_IFNAME=bond0.7",
        "export VLLM_FORCE_NCCL_COMM=1",
        "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        "export VLLM_ENGINE_ITERATION_TIMEOUT_S=36000",
        "export VLLM_RPC_TIMEOUT=36000000",
        "export VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS=3600",
        "export VLLM_HOST_IP=10.0.0.2",
    ]


def test_hostfile_and_serve_word_for_word() -> None:
    files = rendered().files["node1"]
    assert files["hostfile.txt"].decode().splitlines()[1:] == [f"10.0.0.{n} slots=16 type=gpu" for n in (1, 2, 3)]
    assert yaml.safe_load(files["serve/deepseek_r1.yaml"]) == [
        {
            "serve_id": "vllm_model",
            "engine": "vllm",
            "engine_args": {
                "model": "/data1/models/DeeSeek-R1_INT8",
                "served_model_name": "deepseek_r1",
                "tensor_parallel_size": 8,
                "pipeline_parallel_size": 4,
                "max_num_seqs": 256,
                "max_model_len": 5120,
                "gpu_memory_utilization": 0.8,
                "port": 9010,
                "trust_remote_code": True,
            },
        }
    ]


def test_config_word_for_word() -> None:
    found = rendered()
    top = f"/var/lib/r1deploy/releases/{release().id}"
    folder = f"{top}/config/{found.id}"
    data = yaml.safe_load(found.files["node1"]["config_deepseek_r1.yaml"])
    assert data["defaults"] == ["_self_", {"serve": "deepseek_r1"}]
    assert data["action"] == "run"
    assert data["experiment"] == {
        "exp_name": "deepseek_r1",
        "exp_dir": f"{top}/outputs/deepseek_r1",
        "task": {"type": "serve"},
        "deploy": {"use_fs_serve": False},
        "runner": {"hostfile": f"{folder}/hostfile.txt", "docker": "flagrelease_bi", "ssh_port": 22},
        "envs": {"CUDA_DEVICE_MAX_CONNECTIONS": 1},
        "cmds": {"before_start": f"source {folder}/env.sh"},
    }


def test_no_placeholder_is_left() -> None:
    for files in rendered().files.values():
        for data in files.values():
            assert b"CONFIG/" not in data and b"{{" not in data and b"{%" not in data and b"auto" not in data


HARD = {
    "SPACES": "a  b ",
    "SINGLE": "it's",
    "DOUBLE": 'say "hi"',
    "DOLLAR": "$HOME $(id) `id` ${X}",
    "STAR": "*",
    "BACKSLASH": "a\\nb\\",
    "SEMICOLON": "a; exit 1 # b",
    "EMPTY": "",
    "LINES": "one\ntwo",
    "JSON": '{"a": [1, "b"]}',
    "UNICODE": "é 中",
    "TILDE": "~",
    "DASH": "-n",
}


def test_hard_values_survive_the_shell() -> None:
    data = rendered(settings_of(env=HARD)).files["node1"]["env.sh"]
    assert exported(data, list(HARD)) == list(HARD.values())
    assert "export SINGLE=" + shlex.quote("it's") in data.decode()


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])))
def test_any_value_survives_the_shell(value: str) -> None:
    data = rendered(settings_of(env={"VALUE": value})).files["node1"]["env.sh"]
    wanted = NICS["node1"] if value == "auto" else value
    assert exported(data, ["VALUE", "VLLM_HOST_IP"]) == [wanted, "10.0.0.1"]


def test_auto_is_each_hosts_own_interface() -> None:
    """field.md 4.7: NCCL takes a bare name for the beginning of one, and needs "=" for this one only."""
    for host in HOSTS:
        data = rendered().files[host.name]["env.sh"]
        assert exported(data, ["NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"]) == [f"={NICS[host.name]}", NICS[host.name]]
    data = rendered(nics={"node1": None}).files["node1"]["env.sh"]
    assert exported(data, ["NCCL_SOCKET_IFNAME"]) == [""], "an interface that is not known"
    data = rendered(settings_of(env={"NCCL_SOCKET_IFNAME": "ib0"})).files["node1"]["env.sh"]
    assert exported(data, ["NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"]) == ["ib0", "eth0"]


@pytest.mark.parametrize("value", ["plain", 'a "b"', "it's", "{}", "a: b # c", "null", "1", "", "é", True, 3, 0.5])
def test_extra_arguments_and_envs_keep_value_and_type(value: object) -> None:
    wanted = settings_of(engine={"extra": {"some_flag": value}}, service={"envs": {"SOME_ENV": value}})
    files = rendered(wanted).files["node1"]
    found = yaml.safe_load(files["serve/deepseek_r1.yaml"])[0]["engine_args"]["some_flag"]
    assert (found, type(found)) == (value, type(value))
    found = yaml.safe_load(files["config_deepseek_r1.yaml"])["experiment"]["envs"]["SOME_ENV"]
    assert (found, type(found)) == (value, type(value))


def test_no_envs_no_key() -> None:
    data = PROFILE.model_dump()
    data["service"]["envs"] = {}
    found = yaml.safe_load(rendered(Settings.model_validate(data)).files["node1"]["config_deepseek_r1.yaml"])
    assert "envs" not in found["experiment"]
    assert found["experiment"]["cmds"]["before_start"].startswith("source /")


@pytest.mark.parametrize("env", [{}, HARD])
def test_before_start_holds_no_quote(env: dict[str, str]) -> None:
    """FlagScale puts it between its own quotes, twice: any quote or dollar in it would end or change the line."""
    data = yaml.safe_load(rendered(settings_of(env=env)).files["node1"]["config_deepseek_r1.yaml"])
    line = data["experiment"]["cmds"]["before_start"]
    assert not set(line) & set("'\"`$\\;&|<>()*?\n"), line
    assert shlex.split(line)[0] == "source" and len(shlex.split(line)) == 2


def test_ssh_port_is_the_workers() -> None:
    head, *workers = HOSTS
    hosts = (dataclasses.replace(head, port=2200), *(dataclasses.replace(host, port=2222) for host in workers))
    data = yaml.safe_load(rendered(hosts=hosts).files["node1"]["config_deepseek_r1.yaml"])
    assert data["experiment"]["runner"]["ssh_port"] == 2222
    data = yaml.safe_load(rendered(hosts=hosts[:1]).files["node1"]["config_deepseek_r1.yaml"])
    assert data["experiment"]["runner"]["ssh_port"] == 22


def test_the_record_names_every_file_of_every_host() -> None:
    found = rendered(api_key="k" * 20)
    record = Record.model_validate_json(found.files["node3"]["release.json"])
    assert (record.config, record.hosts[0].name, record.port) == (found.id, "node1", 9010)
    for host in record.hosts:
        digests = {n: hashlib.sha256(d).hexdigest() for n, d in found.files[host.name].items() if n != "release.json"}
        assert host.files == digests


def test_the_api_key_is_on_the_head_alone_and_in_one_file() -> None:
    key = "it's a $ecret key"
    found = rendered(api_key=key)
    holders = [(h, n) for h, files in found.files.items() for n, data in files.items() if b"ecret" in data]
    assert holders == [("node1", "api_key.sh")]
    assert found.wanted()["node1"]["api_key.sh"].mode == "0600"
    assert exported(found.files["node1"]["api_key.sh"], ["VLLM_API_KEY"]) == [key]
    assert b"/api_key.sh" in found.files["node1"]["env.sh"]
    assert b"api_key" not in found.files["node2"]["env.sh"]
    assert rendered().id != found.id != rendered(api_key="another one").id


def test_same_inputs_same_bytes() -> None:
    one, two = rendered(), rendered()
    assert one == two
    shuffled = dict(reversed(NICS.items()))
    assert rendered(nics=shuffled) == one


CHANGED: dict[str, Rendered] = {
    "a variable of the environment": rendered(settings_of(env={"X": "1"})),
    "the port": rendered(settings_of(engine={"port": 9011})),
    "the model": rendered(settings_of(engine={"model": "/x"})),
    "tp": rendered(settings_of(engine={"tensor_parallel_size": 16})),
    "trust_remote_code": rendered(settings_of(engine={"trust_remote_code": False})),
    "an extra argument": rendered(settings_of(engine={"extra": {"seed": 1}})),
    "the service's envs": rendered(settings_of(service={"envs": {"A": 1}})),
    "the service's name": rendered(settings_of(service={"name": "other"})),
    "the container's name": rendered(settings_of(container={"name": "other"})),
    "the release": rendered(settings_of(container={"shm_size": "64g"})),
    "the type of chips": rendered(settings_of(chip={"hostfile_type": "cpu"})),
    "one interface": rendered(nics={**NICS, "node3": "eth9"}),
    "one address": rendered(hosts=(*HOSTS[:2], dataclasses.replace(HOSTS[2], address="10.0.0.4"))),
    "the slots of one": rendered(hosts=(*HOSTS[:2], dataclasses.replace(HOSTS[2], slots=8))),
    "fewer hosts": rendered(hosts=HOSTS[:2]),
    "the mode": rendered(settings_of(service={"mode": "ray+vllm"})),
    "Ray's port": rendered(settings_of(service={"mode": "ray+vllm", "ray_port": 6400})),
    "the mode, on one host": rendered(settings_of(service={"mode": "vllm"}), hosts=HOSTS[:1]),
    "the workers' port": rendered(hosts=(HOSTS[0], *(dataclasses.replace(host, port=2222) for host in HOSTS[1:]))),
}


@pytest.mark.parametrize("name", CHANGED)
def test_the_id_changes_with(name: str) -> None:
    assert CHANGED[name].id != rendered().id


def test_no_two_configurations_have_one_id() -> None:
    assert len({found.id for found in CHANGED.values()}) == len(CHANGED)


def test_what_no_file_says_changes_no_id() -> None:
    assert rendered(settings_of(service={"ready_timeout": 1}, disk={"state_gib": 1})).id == rendered().id


def records(found: Rendered) -> list[Record]:
    """A decoy, then the record of a configuration."""
    record = Record.model_validate_json(found.files["node1"]["release.json"])
    return [record.model_copy(update={"config": "c0c0c0c0c0c0"}), record]


def test_a_configuration_is_recognized_although_a_host_is_silent() -> None:
    """field.md 6.8: the same configuration id as when all hosts answer; else nobody knows it."""
    whole = rendered()
    known = {name: nic for name, nic in NICS.items() if name != "node2"}
    material = Material(PROFILE, HOSTS, release(), INPUTS, known)
    found = recognized(material, records(whole))
    assert found is not None and found.id == whole.id
    assert {name: found.files[name] for name in known} == {name: whole.files[name] for name in known}
    other = settings_of(engine={"max_num_seqs": 3})
    assert recognized(dataclasses.replace(material, settings=other), records(whole)) is None
    assert recognized(dataclasses.replace(material, hosts=HOSTS[:2]), records(whole)) is None
    elsewhere = {**known, "node1": "other0"}
    assert recognized(dataclasses.replace(material, nics=elsewhere), records(whole)) is None
