"""The main job with the real vLLM (CPU build) and the real Ray, in a lab of its own beside the tests' lab."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import httpx
import pytest

from tests.lab.site import Site

pytestmark = pytest.mark.lab
REQUIRED = os.environ.get("R1DEPLOY_LAB_ENGINE_REQUIRED") == "1"
CANNOT = "pip cannot get the wheels"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two hosts of a lab with the real engine; skipped, with the reason, where its wheels cannot be had."""
    found = Site(tmp_path_factory.mktemp("real-engine"), "vllm")
    install = ["--install"] if os.environ.get("R1DEPLOY_LAB_REQUIRED") == "1" else []
    done = found.r1("lab", "up", "--engine", "vllm", *install)
    if done.returncode != 0:
        found.leave()
        said = " ".join(done.stderr.split())
        without_engine = "no Docker Engine answers" in said and os.environ.get("R1DEPLOY_LAB_REQUIRED") != "1"
        if (CANNOT in said or without_engine) and not REQUIRED:
            pytest.skip(f"THE REAL ENGINE WAS NOT TESTED: {said}")
        pytest.fail(f"lab up --engine vllm: {said}")
    print(done.stdout + done.stderr)
    try:
        found.take_settings()
        yield found
    finally:
        found.leave()


def ask(site: Site, path: str) -> httpx.Response:
    return httpx.get(f"http://{site.head}:9010{path}", trust_env=False, timeout=20)


def test_the_real_engine_serves(site: Site) -> None:
    assert "Ready to serve." in site.ok("bootstrap", "inventory.ini", "--yes")
    said = site.ok("serve")
    assert "Ray: 2/2 nodes, 32 chips" in said
    try:
        assert ask(site, "/health").status_code == 200
        assert ask(site, "/v1/models").json()["data"][0]["id"] == "deepseek_r1"
        question = {"model": "deepseek_r1", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        url = f"http://{site.head}:9010/v1/chat/completions"
        answer = httpx.post(url, json=question, trust_env=False, timeout=60).json()
        assert answer["usage"]["completion_tokens"] == 8
        assert answer["choices"][0]["message"]["content"]
        assert answer["system_fingerprint"].startswith("vllm-")  # the stand-in sends none
        wrong = httpx.post(url, json={**question, "model": "other"}, trust_env=False, timeout=60)
        assert wrong.status_code == 404
        rows = dict(line.rsplit(" ", 1) for line in ask(site, "/metrics").text.splitlines() if line.startswith("vllm:"))
        counted = [value for name, value in rows.items() if name.startswith("vllm:generation_tokens_total{")]
        assert sum(map(float, counted)) >= 8
        assert json.loads(site.r1("status", "--json").stdout)["ray_nodes"] == 2
        log = site.ok("logs", "--serve", "-n", "2000")
        assert "Loading safetensors checkpoint shards: 100% Completed" in log
        assert "Distributed inference cannot be shown on CPUs" in log
        assert "DeepseekV3ForCausalLM" in log
    finally:
        stopped = site.r1("stop")
    assert stopped.stdout.strip().endswith("Stopped.")
    with pytest.raises(httpx.HTTPError):
        ask(site, "/health")


@pytest.mark.long
def test_another_ray_on_a_worker_is_named(site: Site) -> None:
    """22: the real Ray refuses a node whose version differs."""
    assert "Ready to serve." in site.ok("bootstrap", "inventory.ini", "--yes")
    where = "python3 -c 'import ray._version; print(ray._version.__file__)'"
    other = f"sed -i.own 's/^version = .*/version = \"2.0.0\"/' $({where})"
    site.ok("exec", "--host", "node2", "--", "sh", "-c", other)
    try:
        done = site.r1("serve")
    finally:
        site.ok("exec", "--host", "node2", "--", "sh", "-c", f"f=$({where}); mv $f.own $f")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 7, said
    assert "RAY_NODES_MISSING" in said and "1/2 nodes joined, missing: node2" in said
    assert "Ray 2.0.0 (Python 3.11" in said and "on node2 do not join" in said and "docker rm -f" in said


MODES = [
    # Ray spans both hosts; vLLM's CPU platform computes in one process of the head, whatever the executor.
    pytest.param("ray+vllm", ["engine.extra.distributed_executor_backend=mp"], 2, id="ray+vllm"),
    pytest.param("vllm", ["engine.pipeline_parallel_size=2"], 1, id="vllm"),
]


@pytest.mark.long
@pytest.mark.parametrize(("mode", "sets", "hosts"), MODES)
def test_the_real_engine_without_flagscale(site: Site, mode: str, sets: list[str], hosts: int) -> None:
    flags = [word for pair in (f"service.mode={mode}", *sets) for word in ("--set", pair)]
    inventory = site.folder / "inventory.ini"
    whole = inventory.read_text()
    inventory.write_text("".join(line for line in whole.splitlines(True) if hosts == 2 or not line.startswith("node2")))
    try:
        assert "Ready to serve." in site.ok("bootstrap", "inventory.ini", "--yes", *flags)
        said = site.ok("serve", *flags)
        assert ("Ray: 2/2 nodes, 32 chips" in said) == (hosts == 2)
        assert ask(site, "/v1/models").json()["data"][0]["id"] == "deepseek_r1"
        assert "DeepseekV3ForCausalLM" in site.ok("logs", "--serve", "-n", "2000", *flags)
        stopped = site.r1("stop", *flags)
        assert stopped.stdout.strip().endswith("Stopped."), stopped.stderr
    finally:
        inventory.write_text(whole)
