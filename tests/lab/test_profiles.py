"""The second vendor's profile on the lab's hosts: its smi tool, devices, plain patch and build, by data alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from r1deploy.cluster import hostfile, inventories
from r1deploy.lab import places, upstreams
from tests.lab.conftest import HOSTS, Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long]
STATE = "/var/lib/r1deploy-metax"
PROFILE = "metax-c550"
SECONDS = 900


@pytest.fixture(scope="module")
def metax(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The same hosts as a cluster of the other vendor's: eight chips each, seen by mx-smi."""
    lab, folder = cluster.lab, tmp_path_factory.mktemp("metax")
    commit, upstream = upstreams.plain_patch(lab.layout), f"git://{places.upstream_address()}"
    ssh = yaml.safe_load(lab.layout.settings.read_text())["ssh"]
    settings = {
        "cluster": "labmx",
        "profile": PROFILE,
        "state_dir": STATE,
        "ssh": ssh,
        "image": {"name": places.VENDOR_IMAGE, "tarball": str(lab.layout.tarball_of(places.VENDOR_IMAGE))},
        # The lab's vendor image has no mx-smi of its own.
        "container": {"volumes": ["/mnt/share:/data1", "/opt/mxdriver:/opt/mxdriver:ro"]},
        "flaggems": {"url": f"{upstream}/FlagGems.git"},
        "flagscale": {"url": f"{upstream}/FlagScale.git", "ref": commit},
        "patch": {"commit": commit},
        "engine": {"model": f"{places.MODELS_IN_CONTAINER}/DeepSeek-R1_INT8", "pipeline_parallel_size": 2},
        "env": {"VLLM_PP_LAYER_PARTITION": "31,30"},
        "disk": {"engine_gib": 2, "state_gib": 2},
        "memory": {"available_gib": 1},
        "service": {"ready_timeout": 180},
    }
    (folder / "r1deploy.yaml").write_text(yaml.safe_dump(settings))
    rows = inventories.render(hostfile.read(lab.layout.hostfile))
    assert "slots=16" in rows
    (folder / "inventory.ini").write_text(rows.replace("slots=16", "slots=8"))
    found = Cluster(lab, folder)
    yield found
    for host in HOSTS:
        found.sh(host, "docker ps -aqf label=r1deploy.cluster=labmx | xargs -r docker rm -f >/dev/null")
        found.sh(host, f"rm -rf {STATE}; sed -i '/ r1deploy:labmx/d' /root/.ssh/authorized_keys")


def container(metax: Cluster, host: str) -> str:
    return metax.sh(host, "docker ps -qf label=r1deploy.cluster=labmx").strip()


def test_its_chips_by_its_tool(metax: Cluster) -> None:
    metax.lab.set_chips("node2", unknown=[2])
    try:
        done = metax.r1("preflight", "--json", timeout=SECONDS)
    finally:
        metax.lab.set_chips("node2")
    assert done.code == 5, done.err
    rows = {(row["name"], row["host"]): row for row in json.loads(done.out)["checks"]}
    assert rows["chips", "node1"]["detail"] == "8 × MetaX C550, driver 2.15.9"
    sick = rows["chips", "node2"]
    assert (sick["ok"], sick["code"]) == (False, "CHIP_SICK") and sick["detail"].startswith("chip 2: '| 2 MetaX")
    assert rows["key", None]["detail"] == "no patch is encrypted"
    assert [row["code"] for row in rows.values() if not row["ok"]] == ["CHIP_SICK"]


def test_bootstrap_and_serve(metax: Cluster, tmp_path: Path) -> None:
    done = metax.r1("bootstrap", "inventory.ini", "--yes", timeout=SECONDS)
    assert done.code == 0, done.err
    assert metax.plan() == []
    for host in HOSTS:
        name = container(metax, host)
        asked = json.loads(metax.sh(host, f"docker inspect {name}"))[0]["HostConfig"]
        assert [row["PathOnHost"] for row in asked["Devices"]] == ["/dev/dri", "/dev/mxcd"]
        assert "/dev:/dev" not in asked["Binds"] and asked["PidMode"] == ""
        metax.sh(host, f"docker exec {name} sh -c 'test -c /dev/mxcd && test -c /dev/dri/renderD128'")
        said = "from flagscale import DEVICE; print(DEVICE)"
        tree = f"{STATE}/trees/flagscale-*/FlagScale/build/Metax_C550/FlagScale"
        assert metax.sh(host, f"cd {tree} && python3 -c '{said}'").strip() == "Metax_C550"
        assert "vllm-0.7.3" in metax.sh(host, f"ls {tree}/third_party/vllm/dist")
        environment = metax.sh(host, f"cat {STATE}/releases/*/config/*/env.sh")
        assert "VLLM_PP_LAYER_PARTITION=31,30" in environment
    assert "MACA PATH: /opt/maca" in metax.sh("node1", f"cat {STATE}/releases/*/build.log"), "env.sh was sourced"
    assert not list(metax.folder.rglob("*.pem")), "no key is anywhere near"
    done = metax.r1("serve", timeout=SECONDS)
    assert done.code == 0, done.err
    assert "Ray: 2/2 nodes, 16 chips" in done.err
    address = metax.lab.hosts()[0].address
    models = httpx.get(f"http://{address}:9010/v1/models", trust_env=False).json()
    assert [row["id"] for row in models["data"]] == ["deepseek_r1"]
    assert metax.r1("stop", timeout=SECONDS).out.strip().endswith("Stopped.")


def test_plan_says_where_the_choices_come_from(metax: Cluster) -> None:
    found = {(row["name"], row["host"]): row for row in json.loads(metax.r1("plan", "--json").out)["choices"]}
    assert found["engine.tensor_parallel_size", None]["source"].startswith(f"profile {PROFILE}.yaml:")
    assert found["engine.pipeline_parallel_size", None]["source"].startswith("file r1deploy.yaml:")
    for host in metax.lab.hosts():
        assert found["address", host.name] | {"source": ""} == {
            "name": "address", "host": host.name, "value": host.address, "source": "",
        }  # fmt: skip
        nic = metax.sh(host.name, f"ip -o -4 addr show to {host.address}/32 | awk '{{print $2}}'").strip()
        row = found["NCCL_SOCKET_IFNAME", host.name]
        assert (row["value"], row["source"]) == (nic, f"NIC of {host.address}")
        assert found["slots", host.name]["value"] == "8"
    text = metax.r1("plan").out
    assert "Choices:" in text and max(map(len, text.splitlines())) <= 80
