"""Serve modes on real hosts: FlagScale's own (test_flow.py), Ray and vLLM by our scripts, vLLM alone on one host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1deploy.cluster import hostfile, inventories
from tests.lab.conftest import HOSTS, Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long]
PROCESSES = "ps -eo args | grep -E '[r]aylet|[g]cs_server|[v]llm serve|[r]un_inference_engine' || true"


def test_ray_and_vllm_without_flagscale(ready: Cluster) -> None:
    env = ready.settings(service__mode="ray+vllm")
    for host in HOSTS:  # nothing of this mode goes over SSH from host to host
        ready.sh(host, "sed -i '/ r1deploy:/d' /root/.ssh/authorized_keys")
    assert {row["step"] for row in json.loads(ready.r1("plan", "--json", env=env).out)["changes"]} == {"config"}
    assert ready.r1("bootstrap", "--yes", env=env).code == 0
    done = ready.r1("serve", env=env)
    assert done.code == 0, done.err
    assert "Ray: 2/2 nodes, 32 chips" in done.err
    assert "loading weights [" in done.err
    assert "stand-in engine" in done.text
    address = ready.lab.hosts()[0].address
    for host in ready.lab.hosts():
        found = ready.sh(host.name, PROCESSES)
        assert f"--node_ip_address={host.address} --gcs-address={address}:6379 --num_gpus=16" in found
        assert "run_inference_engine" not in found
    assert "vllm serve" in ready.sh("node1", PROCESSES) and "vllm serve" not in ready.sh("node2", PROCESSES)
    assert "Serves already." in ready.r1("serve", env=env).out
    status = json.loads(ready.r1("status", "--json", env=env).out)
    assert (status["serving"], status["ray_nodes"], status["models"]) == (True, 2, ["deepseek_r1"])
    assert "node1 | " in ready.r1("logs", "-n", "50", env=env).out
    assert ready.r1("stop", env=env).out.strip().endswith("Stopped.")
    assert [ready.sh(host, PROCESSES).strip() for host in HOSTS] == ["", ""]
    assert ready.r1("bootstrap", "--yes").code == 0, "the trust comes back with FlagScale"


def test_a_failed_mode_gives_way_to_the_former_one(ready: Cluster) -> None:
    assert ready.r1("serve").code == 0
    env = ready.settings(service__mode="ray+vllm", engine__extra="{no_such_argument: 1}")
    assert ready.r1("bootstrap", "--yes", env=env).code == 0
    done = ready.r1("serve", "--yes", env=env)
    assert done.code == 7
    assert "ENGINE_DIED" in done.text and "no-such-argument" in done.text, done.err
    assert "serves again" in done.text
    assert "run_inference_engine" in ready.sh("node1", PROCESSES), "by FlagScale, as before"
    assert json.loads(ready.r1("status", "--json").out)["serving"]
    assert ready.r1("stop").code == 0


WHEEL = "/var/lib/r1deploy/trees/flagscale-*/FlagScale/build/BI_V150/FlagScale/third_party/vllm/build_pip/vllm-*.whl"
INSTALL = "python3 -m pip install --no-deps --no-index --force-reinstall /data1/vllm-*.whl"


def test_vllm_alone_on_one_host_without_a_patch(ready: Cluster, tmp_path: Path) -> None:
    """As newer cards are served: vLLM comes as a wheel, nothing is unpatched, no key is asked for."""
    ready.sh("node1", f"cp {WHEEL} /mnt/share/")
    rows = hostfile.read(ready.lab.layout.hostfile)[:1]
    (tmp_path / "inventory.ini").write_text(inventories.render(rows))
    text = (ready.folder / "r1deploy.yaml").read_text()
    (tmp_path / "r1deploy.yaml").write_text("".join(row for row in text.splitlines(True) if "key_dir" not in row))
    one = Cluster(ready.lab, tmp_path)
    env = one.settings(
        service__mode="vllm", engine__pipeline_parallel_size=2, patch__backends="[]", vllm__build="[]",
        vllm__install=json.dumps([INSTALL]),
    )  # fmt: skip
    refused = ready.r1("bootstrap", "--yes", env=env)
    assert refused.code == 5 and "serves on one host, the inventory has 2" in refused.text
    steps = {row["step"] for row in json.loads(one.r1("plan", "--json", env=env).out)["changes"]}
    assert "sources" in steps and "patch" not in steps
    done = one.r1("bootstrap", "--yes", env=env, timeout=900)
    assert done.code == 0, done.err
    assert json.loads(one.r1("plan", "--json", env=env).out)["changes"] == []
    done = one.r1("serve", env=env)
    assert done.code == 0, done.err
    assert "Ray:" not in done.err and "stand-in engine" in done.text
    found = one.sh("node1", PROCESSES)
    assert "vllm serve" in found and "raylet" not in found
    assert one.r1("stop", env=env).out.strip().endswith("Stopped.")
    assert one.sh("node1", PROCESSES).strip() == ""
