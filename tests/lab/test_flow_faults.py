"""Bad input and faults on real hosts: the message, the exit code, and hosts that did not change."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from r1deploy.lab.places import network_prefix
from tests.lab.conftest import HOSTS, NAME, Cluster
from tests.lab.running import apart, refused

pytestmark = pytest.mark.lab
NET = network_prefix()
WEIGHTS = "/mnt/share/models/DeepSeek-R1_INT8"


@pytest.fixture
def unchanged(ready: Cluster) -> Iterator[Cluster]:
    """The hosts are after the test what they were before."""
    before = ready.fingerprint()
    yield ready
    assert ready.fingerprint() == before


# 1: the hostfile. Every form is a unit test; here the file meets the command line.
def test_hostfile_is_refused_with_its_line(unchanged: Cluster) -> None:
    path = unchanged.folder / "bad.txt"
    path.write_text(f"{NET}.11 slots=16 type=gpu\n{NET}.11 slots=0 type=gpu\n")
    done = unchanged.r1("inventory", str(path))
    refused(done, 3, "bad.txt:2", "slots=0")
    refused(unchanged.r1("inventory", "nowhere.txt"), 2, "HOSTFILE_MISSING")
    refused(unchanged.r1("bootstrap", "nowhere.ini"), 2, "INVENTORY_MISSING")
    assert unchanged.r1("plan", "inventory.ini").code == 0


# 2: settings
def test_unknown_setting_names_the_nearest(unchanged: Cluster) -> None:
    refused(unchanged.r1("plan", env=unchanged.settings(engine__prot=1)), 3, "engine.prot", "engine.port")
    refused(unchanged.r1("plan", "--set", "engine.port=70000"), 3, "engine.port")


# 3: --limit
def test_limit_without_head(unchanged: Cluster) -> None:
    refused(unchanged.r1("bootstrap", "--limit", "node2"), 2, "LIMIT_WITHOUT_HEAD", "node1")
    refused(unchanged.r1("bootstrap", "--limit", "node7"), 2, "LIMIT_EMPTY", "node1, node2")


# 4, 5: hosts that cannot be reached
def test_unreachable_host_stops_all(ready: Cluster, tmp_path: Path) -> None:
    site = apart(ready, tmp_path)
    text = (site.folder / "inventory.ini").read_text()
    (site.folder / "inventory.ini").write_text(text.replace(f"{NET}.12 ", f"{NET}.12 ansible_port=2222 "))
    before = site.fingerprint()
    refused(site.r1("bootstrap", "--yes"), 4, "node2", "SSH_REFUSED", "nothing was begun")
    (site.folder / "inventory.ini").write_text(text.replace(f"{NET}.12", "no-such-host.invalid"))
    refused(site.r1("bootstrap", "--yes"), 4, "node2", "SSH_DNS")
    assert site.fingerprint() == before
    status = site.r1("status")
    assert status.code == 0
    assert "SSH_DNS" in status.out
    # No host at all: unknown is not "stopped" (field.md 5.10).
    (site.folder / "inventory.ini").write_text(re.sub(rf"({re.escape(NET)}\.1[12]) ", r"\1 ansible_port=2222 ", text))
    status = site.r1("status", "--json")
    assert status.code == 4
    found = json.loads(status.out)
    assert found["serving"] is None and {host["error"] for host in found["hosts"]} == {"SSH_REFUSED"}
    refused(site.r1("status"), 4, "unknown: no answer from node1, node2")


def test_bootstrap_without_a_terminal_needs_a_yes(unchanged: Cluster) -> None:
    """field.md 5.1: the plan is shown, and nothing is done on the hosts; with nothing to do nobody is asked."""
    done = unchanged.r1("bootstrap", "--set", "engine.max_num_seqs=7")
    refused(done, 2, "YES_MISSING", "--yes")
    assert "changes on 2 hosts" in done.text
    assert unchanged.r1("bootstrap").code == 0


def test_an_inventory_is_remembered_after_a_success(unchanged: Cluster, tmp_path: Path) -> None:
    """field.md 5.2."""
    site = apart(unchanged, tmp_path)
    shutil.copy(unchanged.folder / "r1deploy.lock", tmp_path / "r1deploy.lock")
    text = (site.folder / "inventory.ini").read_text()
    (site.folder / "wrong.ini").write_text(text.replace(f"{NET}.12 ", f"{NET}.12 ansible_port=2222 "))
    (site.folder / "other.ini").write_text(text)
    for verb in ("preflight", "plan", "bootstrap"):
        refused(site.r1(verb, "wrong.ini"), 4, "SSH_REFUSED")
        assert not (site.folder / ".r1deploy" / "inventory").exists(), verb
    done = site.r1("preflight", "other.ini")
    assert done.code == 0 and "other.ini is the inventory here" in done.text, done.text
    (site.folder / "inventory.ini").unlink()
    done = site.r1("plan", "--json")
    assert done.code == 0 and "is the inventory here" not in done.text


def test_login_and_host_keys(unchanged: Cluster, tmp_path: Path) -> None:
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    refused(unchanged.r1("plan", env=unchanged.settings(ssh__key_file=key)), 4, "SSH_AUTH")
    missing = unchanged.settings(ssh__key_file=tmp_path / "missing")
    refused(unchanged.r1("plan", env=missing), 4, "SSH_KEY_FILE", "key file for the login", "not accessible")
    nothing = tmp_path / "known_hosts"
    nothing.write_text("")
    refused(unchanged.r1("plan", env=unchanged.settings(ssh__known_hosts=nothing)), 4, "HOSTKEY_UNKNOWN")
    public = key.with_suffix(".pub").read_text().split()[:2]
    nothing.write_text("".join(f"{host.address} {' '.join(public)}\n" for host in unchanged.lab.hosts()))
    done = unchanged.r1("plan", env=unchanged.settings(ssh__known_hosts=nothing))
    refused(done, 4, "HOSTKEY_CHANGED")
    # field.md 6.13: the name and the file that are meant; what is advised takes the wrong keys away.
    for fix in set(re.findall(r"ssh-keygen -f \S+ -R [0-9.]+", done.text)):
        subprocess.run(fix.split(), check=True, capture_output=True)
    refused(unchanged.r1("plan", env=unchanged.settings(ssh__known_hosts=nothing)), 4, "HOSTKEY_UNKNOWN")


# 7: no engine
def test_engine_down(ready: Cluster) -> None:
    ready.sh("node2", "mv /var/run/docker.sock /var/run/docker.sock.away")
    try:
        refused(ready.r1("bootstrap", "--yes"), 5, "node2", "ENGINE_DOWN", "systemctl start docker")
    finally:
        ready.sh("node2", "mv /var/run/docker.sock.away /var/run/docker.sock")
    assert ready.plan() == []


# 12: a container of our name that is not ours
def test_foreign_container(ready: Cluster) -> None:
    own = ready.sh("node2", "docker ps --format '{{.Names}}'").split()[0]
    ready.sh("node2", f"docker rename {own} aside; docker run -d --name {NAME} baai:v5 sleep 900 >/dev/null")
    ready.sh("node1", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
    try:
        before = ready.fingerprint()
        refused(ready.r1("bootstrap", "--yes"), 5, "node2", "CONTAINER_FOREIGN", "docker rename", "differs in")
        assert ready.fingerprint() == before
    finally:
        ready.sh("node2", f"docker rm -f {NAME} >/dev/null; docker rename aside {own}")
    assert ready.r1("bootstrap", "--yes").code == 0


# 13: git
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"flaggems__ref": "no-such-branch"}, ("GIT_REF_GONE", "no-such-branch")),
        ({"flaggems__url": f"git://{NET}.2/Nothing.git"}, ("GIT_", "ls-remote")),
        ({"flaggems__url": f"git://{NET}.99/FlagGems.git"}, ("GIT_NO_ROUTE",)),
        ({"patch__commit": "0" * 40}, ("GIT_REF_GONE", "patch.commit")),
    ],
)
def test_git_faults_come_before_any_host_changes(
    unchanged: Cluster, tmp_path: Path, settings: dict[str, str], words: tuple[str, ...]
) -> None:
    site = apart(unchanged, tmp_path)
    refused(site.r1("bootstrap", "--yes", env=site.settings(**settings)), 5, *words)


# 15: the key
def wrong_key(folder: Path, good: Path) -> None:
    subprocess.run(
        ["openssl", "genrsa", "-out", str(folder / "private_key.pem"), "4096"], check=True, capture_output=True
    )
    (folder / "private_key.pem").chmod(0o600)


def open_key(folder: Path, good: Path) -> None:
    shutil.copy(good, folder / "private_key.pem")
    (folder / "private_key.pem").chmod(0o644)


def no_pem(folder: Path, good: Path) -> None:
    (folder / "private_key.pem").write_text("hello\n")
    (folder / "private_key.pem").chmod(0o600)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (wrong_key, "KEY_WRONG"),
        (open_key, "KEY_MODE"),
        pytest.param(no_pem, "KEY_NOT_PEM", marks=pytest.mark.faults),
        pytest.param(lambda *_: None, "KEY_MISSING", marks=pytest.mark.faults),
    ],
    ids=["wrong", "open to others", "not PEM", "missing"],
)
def test_key_faults(unchanged: Cluster, tmp_path: Path, make: Callable[[Path, Path], None], code: str) -> None:
    make(tmp_path, unchanged.lab.layout.vendor_key)
    env = unchanged.settings(patch__key_dir=tmp_path)
    refused(unchanged.r1("preflight", env=env), 5, code)
    # Another task asks for another patched tree, so bootstrap would unpatch: the key is proven before.
    refused(unchanged.r1("bootstrap", "--yes", "--set", "vllm.build=[bash build_vllm.sh]", env=env), 5, code)
    refused(unchanged.r1("preflight", env=unchanged.settings(patch__key_dir=__file__)), 5, "KEY_NOT_FOLDER")


# 8: chips
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"count": 15}, ("CHIPS_MISMATCH", "15 chips, slots=16")),
        ({"unknown": [2]}, ("CHIP_SICK", "chip 2")),
        pytest.param({"driver": "4.0.0"}, ("DRIVER_DIFFERS",), marks=pytest.mark.faults),
        pytest.param({"missing": True}, ("DRIVER_MISSING",), marks=pytest.mark.faults),
        pytest.param({"used": {3: 9000}}, ("CHIP_BUSY", "3 (9000 MiB)"), marks=pytest.mark.faults),
    ],
    ids=["one missing", "sick", "other driver", "no smi", "busy"],
)
def test_chips(ready: Cluster, how: dict[str, object], words: tuple[str, ...]) -> None:
    ready.lab.set_chips("node2", **how)
    try:
        refused(ready.r1("preflight"), 5, "node2", *words)
        refused(ready.r1("serve"), 5, words[0])
    finally:
        ready.lab.set_chips("node2")
    assert ready.r1("preflight").code == 0


# 22: arithmetic, ports, a worker that never joins
def test_topology(unchanged: Cluster) -> None:
    refused(unchanged.r1("preflight", "--set", "engine.pipeline_parallel_size=3"), 5, "TOPOLOGY", "tp 8 × pp 3 = 24")
    refused(
        unchanged.r1(
            "preflight", "--set", "engine.tensor_parallel_size=32", "--set", "engine.pipeline_parallel_size=1"
        ),
        5,
        "tp 32 > 16 chips",
    )


def test_port_taken(ready: Cluster) -> None:
    ready.sh("node1", "nohup python3 -m http.server 9010 >/dev/null 2>&1 & echo $! > /run/taken; sleep 1")
    try:
        refused(ready.r1("serve"), 5, "PORT_TAKEN", "9010")
    finally:
        ready.sh("node1", "kill $(cat /run/taken)")


def test_worker_never_joins(ready: Cluster) -> None:
    container = ready.sh("node2", "docker ps -q").split()[0]
    path = ready.sh("node2", f"docker exec {container} sh -c 'realpath $(which ray)'").strip()
    ready.sh("node2", f"docker exec {container} mv {path} {path}.away")
    try:
        done = ready.r1("serve", env=ready.settings(service__join_timeout=8))
        refused(done, 7, "RAY_NODES_MISSING", "1/2 nodes joined, missing: node2")
    finally:
        ready.sh("node2", f"docker exec {container} mv {path}.away {path}")
        ready.r1("stop")


# 23: weights
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"mv {WEIGHTS} {WEIGHTS}.away", ("WEIGHTS_MISSING",)),
        (f"cp -r {WEIGHTS} {WEIGHTS}.away; rm $(ls {WEIGHTS}/*.safetensors | head -1)", ("WEIGHTS_DAMAGED", "missing")),
        (
            f"cp -r {WEIGHTS} {WEIGHTS}.away; truncate -s -4 $(ls {WEIGHTS}/*.safetensors | head -1)",
            ("truncated or damaged",),
        ),
    ],
    ids=["all", "a shard", "cut"],
)
def test_weights(ready: Cluster, script: str, words: tuple[str, ...]) -> None:
    ready.sh("node1", script)
    try:
        refused(ready.r1("preflight"), 5, *words)
        refused(ready.r1("serve"), 5, "WEIGHTS")
    finally:
        ready.sh("node1", f"rm -rf {WEIGHTS}; mv {WEIGHTS}.away {WEIGHTS}")


# 26: strangers
def test_foreign_engine_is_refused_and_spared(ready: Cluster) -> None:
    ready.sh(
        "node2", "nohup python3 -c 'import time; time.sleep(900)' vllm serve x >/dev/null 2>&1 & echo $! > /run/foreign"
    )
    try:
        pid = ready.sh("node2", "cat /run/foreign").strip()
        refused(ready.r1("serve"), 5, "FOREIGN_PROCESSES", f"pid {pid}")
        assert ready.r1("stop").out.strip() == "Nothing runs."
        ready.sh("node2", f"kill -0 {pid}")
    finally:
        ready.sh("node2", "kill $(cat /run/foreign)")


# 27, 24: engines that fail
def test_serve_before_bootstrap(unchanged: Cluster) -> None:
    refused(unchanged.r1("serve", "--set", "engine.max_num_seqs=7"), 5, "NOT_BOOTSTRAPPED", "r1deploy bootstrap")


# What fails with a former release to go back to is in test_releases.py.
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param("crash-at-start", "ENGINE_DIED", marks=pytest.mark.faults),
        pytest.param("crash-while-loading", "ENGINE_DIED", marks=pytest.mark.faults),
        ("no-tokens", "NO_TOKENS"),
        pytest.param("wrong-model", "MODEL_WRONG", marks=pytest.mark.faults),
        pytest.param("hang", "ENGINE_SILENT", marks=pytest.mark.faults),
    ],
)
def test_bad_engine(ready: Cluster, fault: str, code: str) -> None:
    ready.lab.set_engine_fault("node1", fault)
    try:
        done = ready.r1("serve", env=ready.settings(service__ready_timeout=12))
        refused(done, 7, code)
        assert "  | " in done.err
    finally:
        ready.lab.set_engine_fault("node1", None)
        assert ready.r1("stop").code == 0


@pytest.mark.faults
def test_bad_release_gives_way_to_the_former_one(ready: Cluster) -> None:
    assert ready.r1("serve").code == 0
    new = ["--set", "engine.max_num_seqs=128"]
    done = ready.r1("bootstrap", "--yes", *new)
    assert done.code == 0, done.err
    assert set(re.findall(r"^ +\d+s  (\w+)", done.err, re.M)) == {"config"}
    assert ready.r1("serve").out.startswith("Serves already.")
    try:
        broken = ready.r1("serve", *new, "--set", "engine.extra.no_such_argument=1")
        assert broken.code == 5  # that configuration was never bootstrapped
        assert ready.r1("bootstrap", "--yes", "--set", "engine.extra.no_such_argument=1").code == 0
        done = ready.r1("serve", "--yes", "--set", "engine.extra.no_such_argument=1")
        refused(done, 7, "serves again")
        assert ready.r1("serve").out.startswith("Serves already.")
        for host in HOSTS:
            assert "release" in ready.sh(host, "cat /var/lib/r1deploy/active.json")
    finally:
        ready.r1("stop")


# 8: an image that does not fit the driver
@pytest.mark.faults
def test_driver_does_not_fit_the_image(ready: Cluster) -> None:
    ready.sh("node2", "docker exec $(docker ps -q) pip uninstall -qy vllm")
    ready.lab.set_chips("node2", cuda="N/A")
    try:
        refused(ready.r1("bootstrap", "--yes"), 6, "node2", "does not fit the host's driver")
    finally:
        ready.lab.set_chips("node2")
    assert ready.r1("bootstrap", "--yes").code == 0
    assert ready.plan() == []
