"""The lab verifies its own stand-ins: the seed page's commands, corrected, by hand over ssh."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from r1deploy.lab import Lab, LabError
from r1deploy.lab.places import VENDOR_IMAGE, upstream_address
from tests.lab.hands import NAME, Hands

pytestmark = pytest.mark.lab
RUN = (
    f"docker run --shm-size=32g -itd -v /dev:/dev -v /usr/src/:/usr/src -v /lib/modules/:/lib/modules "
    f"-v /mnt/share:/data1 --privileged --cap-add=ALL --pid=host --net=host --name {NAME} baai:v5"
)
MODEL = "/data1/models/DeepSeek-R1_INT8"
UPSTREAM = f"git://{upstream_address()}"
WORK = "/root/work"
KEY_FOLDER = "/root/vendor-key"


def clean(hands: Hands) -> None:
    for host in hands.names:
        forget = "sed -i '/r1lab-itself/d' /root/.ssh/authorized_keys"
        hands.ssh(host, f"docker rm -f {NAME} >/dev/null 2>&1; {forget}; true")


@pytest.fixture(scope="module")
def lab() -> Lab:
    found = Lab()
    try:
        found.up(install=os.environ.get("R1DEPLOY_LAB_REQUIRED") == "1")
    except LabError as error:
        if os.environ.get("R1DEPLOY_LAB_REQUIRED") == "1":
            raise
        pytest.skip(f"the lab cannot start here: {error}")
    return found


@pytest.fixture(scope="module")
def hands(lab: Lab) -> Iterator[Hands]:
    """Two hosts with the vendor's image loaded and the product's container started."""
    found = Hands(lab)
    clean(found)
    loaders = [
        subprocess.Popen(
            lab.ssh(host, "docker", "load"),
            stdin=lab.layout.tarball_of(VENDOR_IMAGE).open("rb"),
            stdout=subprocess.PIPE,
        )
        for host in found.names
    ]
    for loader in loaders:
        assert b"baai:v5" in loader.communicate(timeout=180)[0]
    for host in found.names:
        found.ssh(host, RUN)
    yield found
    clean(found)
    for host in found.names:
        found.ssh(host, "docker rmi baai:v5; true")


@pytest.fixture(scope="module")
def sources(hands: Hands, lab: Lab) -> str:
    """FlagGems and FlagScale cloned in the head's container; returns the patch's commit."""
    hands.head(f"rm -rf {WORK} && mkdir -p {WORK} && cd {WORK} && git clone -q {UPSTREAM}/FlagGems.git")
    hands.head(f"cd {WORK}/FlagGems && git checkout -q deepseek_release_iluvatar")
    hands.head(f"cd {WORK} && git clone -q {UPSTREAM}/FlagScale.git")
    return str(json.loads((lab.layout.upstreams / "state.json").read_text())["patch"])


def put_key(hands: Hands, pem: bytes) -> None:
    host = hands.names[0]
    script = f"docker exec -i {NAME} bash -c 'umask 077; mkdir -p {KEY_FOLDER}; cat > {KEY_FOLDER}/private_key.pem'"
    code, output = hands.lab.exec(host, "sh", "-c", script, stdin=pem)
    assert code == 0, output


def unpatch(hands: Hands, commit: str, code: int, order: str = "vllm FlagScale") -> str:
    line = f"python tools/patch/unpatch.py --backend {order} --task inference --device-type BI_V150"
    line += f" --key-path {KEY_FOLDER} --commit {commit}" if commit else f" --key-path {KEY_FOLDER}"
    return hands.head(f"mkdir -p {WORK}/tmp && cd {WORK}/FlagScale && TMPDIR={WORK}/tmp {line}", code)


@pytest.fixture(scope="module")
def tree(hands: Hands, lab: Lab, sources: str) -> str:
    """The patched tree, vLLM built and everything installed on the head, then on the worker."""
    put_key(hands, lab.layout.vendor_key.read_bytes())
    unpatch(hands, sources, 0)
    place = f"{WORK}/FlagScale/build/BI_V150/FlagScale"
    scripts = "bash clean_vllm.sh && bash build_vllm.sh && bash install_vllm.sh"
    built = hands.head(f"cd {place}/third_party/vllm && {scripts}")
    assert "Building C object" in built and "Successfully installed vllm-0.7.3" in built
    steps = f"cd {WORK}/FlagGems && pip install ./ --no-deps --no-build-isolation"
    steps += f" && cd {place} && PYTHONPATH=./ pip3 install . --no-build-isolation --no-deps"
    hands.head(steps)
    for worker in hands.names[1:]:
        packed = f"docker exec {NAME} tar -C /root -c work"
        sender = subprocess.Popen(hands.lab.ssh(hands.names[0], "sh", "-c", packed), stdout=subprocess.PIPE)
        unpack = hands.lab.ssh(worker, "sh", "-c", f"docker exec -i {NAME} tar -C /root -x")
        subprocess.run(unpack, stdin=sender.stdout, check=True, timeout=120)
        hands.inside(worker, f"bash {place}/third_party/vllm/install_vllm.sh && {steps}")
    return place


def configure(hands: Hands, port: int) -> str:
    """The seed's three files, corrected: absolute paths, our container, the hosts' interface."""
    place = "/root/conf"
    hosts = "\\n".join(f"{address} slots=16 type=gpu" for address in hands.addresses)
    main = {
        "defaults": ["_self_", {"serve": "deepseek_r1"}],
        "experiment": {
            "exp_name": "deepseek_r1",
            "exp_dir": "/root/outputs/${experiment.exp_name}",
            "task": {"type": "serve"},
            "deploy": {"use_fs_serve": False},
            "runner": {"hostfile": f"{place}/hostfile.txt", "docker": NAME},
            "envs": {"CUDA_DEVICE_MAX_CONNECTIONS": 1},
            "cmds": {"before_start": "export USE_FLAGGEMS=true && export GLOO_SOCKET_IFNAME=eth0"},
        },
        "action": "run",
        "hydra": {"run": {"dir": "${experiment.exp_dir}/hydra"}},
    }
    arguments = {"model": MODEL, "tensor-parallel-size": 8, "pipeline_parallel_size": 4, "max-model-len": 5120}
    arguments.update({"port": port, "trust-remote-code": True, "served_model_name": "deepseek_r1"})
    serve = [{"serve_id": "vllm_model", "engine": "vllm", "engine_args": arguments}]
    hands.head(
        f"mkdir -p {place}/serve && rm -rf /root/outputs && printf '{hosts}\\n' > {place}/hostfile.txt"
        f" && echo {shlex.quote(json.dumps(main))} > {place}/config_deepseek_r1.yaml"
        f" && echo {shlex.quote(json.dumps(serve))} > {place}/serve/deepseek_r1.yaml"
    )
    return f"{place}/config_deepseek_r1.yaml"


def trust(hands: Hands) -> None:
    """Let root of the head's container into the workers, by hand."""
    public = hands.head(
        "mkdir -p -m 0700 ~/.ssh && rm -f ~/.ssh/id_ed25519* && ssh-keygen -q -t ed25519 -N '' -C r1lab-itself "
        "-f ~/.ssh/id_ed25519 && cat ~/.ssh/id_ed25519.pub"
    ).strip()
    known = hands.lab.layout.known_hosts.read_text()
    hands.head(f"printf %s {shlex.quote(known)} > ~/.ssh/known_hosts")
    for worker in hands.names[1:]:
        hands.ssh(worker, f"echo {shlex.quote(public)} >> /root/.ssh/authorized_keys")


def ask(hands: Hands, port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    data = f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}" if body else ""
    url = f"http://{hands.addresses[0]}:{port}{path}"
    text = hands.head(f"curl -sS -m 20 -w '\\n%{{http_code}}' {data} {url}", None)
    answer, _, code = text.rpartition("\n")
    return (int(code) if code.isdigit() else 0), answer


def wait_until(what: str, seconds: float, check: Any) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, what
        time.sleep(0.5)


def test_hosts_answer_over_ssh(hands: Hands) -> None:
    for host in hands.names:
        assert hands.ssh(host, "hostname").strip() == host
    sudo = hands.lab.ssh(hands.names[0], "sudo", "id", "-u", user="ops")
    assert subprocess.run(sudo, capture_output=True, text=True, timeout=20, check=False).stdout.strip() == "0"


def test_hostname_is_not_loopback(hands: Hands) -> None:
    for host, address in zip(hands.names, hands.addresses, strict=True):
        assert hands.inside(host, f"getent hosts {host}").split()[0] == address


def test_container_sees_host_chips_and_share(hands: Hands) -> None:
    lines = hands.inside(hands.names[1], "LD_LIBRARY_PATH=/usr/local/corex/lib64 /usr/local/corex/bin/ixsmi -L")
    assert len(lines.splitlines()) == 16
    assert "libixml" in hands.inside(hands.names[1], "/usr/local/corex/bin/ixsmi -L", 127)
    hands.inside(hands.names[1], f"test -f {MODEL}/model.safetensors.index.json")


def test_chips_can_be_made_sick(hands: Hands) -> None:
    host = hands.names[1]
    look = "LD_LIBRARY_PATH=/usr/local/corex/lib64 /usr/local/corex/bin/ixsmi"
    try:
        hands.lab.set_chips(host, count=15, used={3: 9000}, unknown=[2])
        for where in (hands.ssh, hands.inside):
            found = where(host, f"{look} -L; {look} --format=csv,noheader --query-gpu=index,memory.used").splitlines()
            assert len(found) == 30 and "GPU-?????" in found[2] and found[18] == "3, 9000 MiB"
        hands.lab.set_chips(host, no_device=True)
        assert "No supported GPUs found" in hands.ssh(host, look, 1)
        hands.lab.set_chips(host, missing=True)
        hands.ssh(host, f"{look} -L", 127)
    finally:
        hands.lab.set_chips(host)
    assert len(hands.ssh(host, f"{look} -L").splitlines()) == 16


def test_wrong_key_fails_after_the_clone(hands: Hands, sources: str) -> None:
    made = subprocess.run(["openssl", "genrsa", "-traditional", "4096"], capture_output=True, check=True)
    put_key(hands, made.stdout)
    text = unpatch(hands, sources, 1)
    assert "Decryption of AES key failed" in text and "Error occurred during unpatching." in text
    assert text.index("Decryption of AES key failed") >= 0 and "Initializing submodule vllm" in text
    hands.head(f"test ! -e {WORK}/FlagScale/build/BI_V150")
    assert "Initializing submodule" not in unpatch(hands, sources, 1, "FlagScale vllm")


def test_without_a_commit_the_useless_patch_is_taken(hands: Hands, lab: Lab, sources: str) -> None:
    put_key(hands, lab.layout.vendor_key.read_bytes())
    assert "Error occurred during unpatching." in unpatch(hands, "", 1)


def test_patched_tree(hands: Hands, tree: str) -> None:
    hands.head(f"test -x {tree}/third_party/vllm/build_vllm.sh && ls {tree}/third_party/vllm/build_pip/*.whl")
    assert "BI_V150" in hands.head(f"cat {tree}/flagscale/__init__.py")
    # The trap of the real one: the vendor's patch in plain text stays in the temporary folder.
    assert "diff.patch" in hands.head(f"find {WORK}/tmp -name diff.patch")


def test_flagscale_needs_its_own_folder_on_the_path(hands: Hands, tree: str) -> None:
    text = hands.head(f"cd {tree} && pip3 install . --no-build-isolation --no-deps", None)
    assert "No module named 'custom_build_backend'" in text
    hands.head(f"cd {tree} && PYTHONPATH=./ pip wheel . --no-build-isolation --no-deps -w {WORK}/wheels")


def test_serve_says_success_though_ssh_fails(hands: Hands, tree: str) -> None:
    path = configure(hands, 9011)
    hands.head("rm -rf ~/.ssh")
    hands.head(f"flagscale serve deepseek_r1 {path}", 0)
    log = "/root/outputs/deepseek_r1/serve_logs/host_0_localhost.output"
    wait_until(
        "the engine waits for the chips that did not join",
        30,
        lambda: "Waiting for creating a placement group" in hands.head(f"cat {log}", None),
    )
    assert "1 node_" in hands.head("ray status") and hands.head("ray status").count("node_") == 1


def test_whole_service_answers(hands: Hands, tree: str) -> None:
    port = 9012
    path = configure(hands, port)
    trust(hands)
    assert "does not exist" in hands.head("flagscale serve no_such_model", 0)
    hands.head(f"flagscale serve deepseek_r1 {path}", 0)
    wait_until("the engine is healthy", 60, lambda: ask(hands, port, "/health")[0] == 200)
    assert hands.head("ray status").count("node_") == 2
    assert json.loads(ask(hands, port, "/v1/models")[1])["data"][0]["id"] == "deepseek_r1"
    question = {"model": "deepseek_r1", "messages": [{"role": "user", "content": "Which colour is the sea?"}]}
    code, text = ask(hands, port, "/v1/chat/completions", question)
    answer = json.loads(text)
    assert code == 200 and answer["usage"]["completion_tokens"] > 0
    said = answer["choices"][0]["message"]["content"]
    assert "stand-in" in said and "Which colour is the sea?" in said
    streamed = ask(hands, port, "/v1/chat/completions", {**question, "stream": True})[1]
    assert streamed.strip().endswith("data: [DONE]") and streamed.count("data: ") > 5
    assert 'vllm:generation_tokens_total{model_name="deepseek_r1"}' in ask(hands, port, "/metrics")[1]
    assert ask(hands, port, "/v1/chat/completions", {**question, "model": "other"})[0] == 404
    log = hands.head("cat /root/outputs/deepseek_r1/serve_logs/host_0_localhost.output")
    assert log.count("Successfully enabled flag_gems") == 3 and "100% Completed | 3/3" in log
    look = "LD_LIBRARY_PATH=/usr/local/corex/lib64 /usr/local/corex/bin/ixsmi"
    look += " --query-gpu=memory.used --format=csv,noheader"
    for host in hands.names:
        used = hands.ssh(host, look).splitlines()[0]
        assert int(used.split()[0]) > 20000, f"{host}: the engine holds memory, but ixsmi says {used}"


@pytest.fixture
def engine(hands: Hands, tree: str) -> Iterator[str]:
    """A line that starts an engine of one chip on the head, without FlagScale."""
    hands.head("ray stop; ray start --head --port=6390 --num-gpus=16")
    yield f"env R1LAB_LOAD_SECONDS=0.3 vllm serve {MODEL} --served-model-name lab --port 9013"
    hands.lab.set_engine_fault(hands.names[0], None)
    hands.head("ray stop; kill $(cat /root/engine.pid 2>/dev/null) 2>/dev/null; true", None)


@pytest.mark.parametrize(
    ("fault", "said"), [("crash-at-start", "invalid device ordinal"), ("crash-while-loading", "out of memory")]
)
def test_engine_can_be_told_to_crash(hands: Hands, engine: str, fault: str, said: str) -> None:
    hands.lab.set_engine_fault(hands.names[0], fault)
    assert said in hands.head(engine, 1)


def test_engine_can_be_told_to_hang_and_refuses_nonsense(hands: Hands, engine: str) -> None:
    hands.lab.set_engine_fault(hands.names[0], "hang")
    assert "asked to hang" in hands.head(f"timeout 4 {engine}", None)
    assert "unrecognized arguments" in hands.head(f"{engine} --no-such-flag 1", 2)
    assert "Incorrect path" in hands.head("vllm serve /data1/models/none", 1)


def start(hands: Hands, line: str) -> None:
    hands.head(f"({line} > /root/engine.log 2>&1 & echo $! > /root/engine.pid)")
    wait_until("the engine is healthy", 20, lambda: ask(hands, 9013, "/health")[0] == 200)


def test_engine_asks_for_the_key(hands: Hands, engine: str) -> None:
    start(hands, f"env VLLM_API_KEY=open-sesame {engine}")
    assert ask(hands, 9013, "/v1/models")[0] == 401
    url = f"http://{hands.addresses[0]}:9013/v1/models"
    assert '"lab"' in hands.head(f"curl -sS -H 'Authorization: Bearer open-sesame' {url}")


@pytest.mark.parametrize(("fault", "code"), [("no-tokens", 200), ("wrong-model", 404)])
def test_engine_can_be_told_to_answer_badly(hands: Hands, engine: str, fault: str, code: int) -> None:
    hands.lab.set_engine_fault(hands.names[0], fault)
    start(hands, engine)
    body = {"model": "lab", "messages": [{"role": "user", "content": "?"}]}
    found, text = ask(hands, 9013, "/v1/chat/completions", body)
    assert found == code
    if code == 200:
        assert json.loads(text)["usage"]["completion_tokens"] == 0
        hands.lab.set_engine_fault(hands.names[0], "reasoning")
        found = json.loads(ask(hands, 9013, "/v1/chat/completions", body)[1])
        message = found["choices"][0]["message"]
        assert (message["content"], found["choices"][0]["finish_reason"]) == (None, "length")
        assert "stand-in engine" in message["reasoning_content"] and found["usage"]["completion_tokens"] > 0
        hands.lab.set_engine_fault(hands.names[0], None)
        assert json.loads(ask(hands, 9013, "/v1/chat/completions", body)[1])["choices"][0]["message"]["content"]
