"""What render() writes for each way of serving, and that the scripts do what they say."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.cluster.host import Host
from r1deploy.modes import mode_of
from r1deploy.modes.base import command_line
from r1deploy.planning.layout import Layout
from r1deploy.planning.recorded import Record
from r1deploy.render import Rendered
from r1deploy.settings.model import Engine
from tests.unit.test_render import HOSTS, PROFILE, release, rendered, settings_of


def in_mode(mode: str, hosts: tuple[Host, ...] = HOSTS, **engine: object) -> Rendered:
    return rendered(settings_of(service={"mode": mode}, engine=engine), hosts)


def test_files_of_each_mode() -> None:
    assert {name: sorted(files) for name, files in in_mode("ray+vllm").files.items()} == {
        "node1": ["env.sh", "ray.sh", "release.json", "serve.sh"],
        "node2": ["env.sh", "ray.sh", "release.json"],
        "node3": ["env.sh", "ray.sh", "release.json"],
    }
    assert sorted(in_mode("vllm", HOSTS[:1]).files["node1"]) == ["env.sh", "release.json", "serve.sh"]


@pytest.mark.parametrize("mode", ["flagscale", "ray+vllm", "vllm"])
def test_the_record_knows_the_mode(mode: str) -> None:
    assert Record.model_validate_json(in_mode(mode, HOSTS[:1]).files["node1"]["release.json"]).mode == mode


def ran(data: bytes, tmp_path: Path, rendered_for: Rendered, *programs: str) -> list[list[str]]:
    """A script's commands: stand-ins on the PATH write down their arguments. Paths are moved below tmp_path."""
    for name in programs:
        put = tmp_path / "bin" / name
        put.parent.mkdir(exist_ok=True)
        put.write_text(f'#!/bin/bash\nprintf "%s\\0" {name} "$@" "$VLLM_HOST_IP" > {tmp_path}/{name}.argv\n')
        put.chmod(0o755)
    state = PROFILE.state_dir
    folder = tmp_path / "state" / "releases" / release().id / "config" / rendered_for.id
    folder.mkdir(parents=True)
    (folder / "env.sh").write_bytes(rendered_for.files["node1"]["env.sh"])
    script = data.decode().replace(state, str(tmp_path / "state"))
    path = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script + "\nwait"], env=path, capture_output=True, timeout=20, check=True)
    assert done.stderr == b"", done.stderr
    return [(tmp_path / f"{name}.argv").read_text().split("\0")[:-1] for name in programs]


def test_serve_script_starts_vllm_with_every_argument_and_leaves_its_pid(tmp_path: Path) -> None:
    hard = {"chat_template": 'it\'s "a" $b', "enforce_eager": True, "seed": 0}
    found = in_mode("ray+vllm", model="/data1/models/a b".replace(" ", "_"), extra=hard)
    (argv,) = ran(found.files["node1"]["serve.sh"] + b"\n", tmp_path, found, "vllm")
    assert argv == [
        "vllm", "serve", "/data1/models/a_b", "--distributed-executor-backend", "ray",
        "--served-model-name", "deepseek_r1", "--tensor-parallel-size", "8", "--pipeline-parallel-size", "4",
        "--max-num-seqs", "256", "--max-model-len", "5120", "--gpu-memory-utilization", "0.8", "--port", "9010",
        "--trust-remote-code", "--chat-template", "it's \"a\" $b", "--enforce-eager", "--seed", "0", "10.0.0.1",
    ]  # fmt: skip
    logs = tmp_path / "state/releases" / release().id / "outputs/deepseek_r1/serve_logs"
    assert int((logs / "pids/host_0_localhost.pid").read_text()) > 0
    assert (logs / "host_0_localhost.output").exists()


def test_log_and_pid_lie_where_the_gate_looks() -> None:
    from r1deploy.serving.gate import Gate

    found = in_mode("vllm", HOSTS[:1])
    script = found.files["node1"]["serve.sh"].decode()
    record = Record.model_validate_json(found.files["node1"]["release.json"])
    unused: Any = None
    run: Any = SimpleNamespace(layout=Layout(PROFILE.state_dir), settings=PROFILE)
    gate = Gate(run, unused, record, unused)
    assert f">> {gate.log} 2>&1" in script and f"> {gate.pid}\n" in script


def test_ray_scripts(tmp_path: Path) -> None:
    files = in_mode("ray+vllm").files
    assert files["node1"]["ray.sh"].decode().splitlines()[-1] == (
        "exec ray start --head --port=6379 --node-ip-address=10.0.0.1 --num-gpus=16"
    )
    assert files["node3"]["ray.sh"].decode().splitlines()[-1] == (
        "exec ray start --address=10.0.0.1:6379 --node-ip-address=10.0.0.3 --num-gpus=16"
    )
    found = in_mode("ray+vllm")
    (argv,) = ran(found.files["node1"]["ray.sh"], tmp_path, found, "ray")
    assert argv[-1] == "10.0.0.1", "Ray's processes have the node's environment"


def test_arguments_of_a_mode() -> None:
    def words(mode: str, engine: Engine) -> list[str]:
        return command_line(mode_of(mode).arguments(engine))

    assert "ray" not in words("vllm", PROFILE.engine)
    own = settings_of(engine={"extra": {"distributed_executor_backend": "mp"}}).engine
    assert words("ray+vllm", own).count("--distributed-executor-backend") == 1
    assert "mp" in words("ray+vllm", own)
