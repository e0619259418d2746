"""Input that somebody altered, and the rest of the faults that a machine can show: found by name, on its host."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from r1deploy.render import SECRET
from tests.lab.conftest import Cluster
from tests.lab.running import apart, assert_nothing_left, plain_ansible, refused

pytestmark = pytest.mark.lab
TREES = "/var/lib/r1deploy/trees"


@pytest.fixture
def ansible(ready: Cluster, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one role on one host, with the variables of an exported folder: past r1deploy's own checks."""
    target = tmp_path / "export"
    assert ready.r1("export", str(target)).code == 0

    def run(role: str, host: str, **variables: object) -> subprocess.CompletedProcess[str]:
        play = [{"name": role, "hosts": host, "gather_facts": False, "roles": [{"role": f"r1deploy.cluster.{role}"}]}]
        path = target / f"only-{role}.yml"
        path.write_text(yaml.safe_dump(play))
        return plain_ansible(target, str(path), "-e", json.dumps(variables))

    return run


def test_locked_ciphertext_is_the_one_that_counts(ready: Cluster, tmp_path: Path) -> None:
    site = apart(ready, tmp_path)
    lock = yaml.safe_load((ready.folder / "r1deploy.lock").read_text())
    name = sorted(lock["patch"]["ciphertexts"])[0]
    lock["patch"]["ciphertexts"][name] = "0" * 64
    (site.folder / "r1deploy.lock").write_text(yaml.safe_dump(lock))
    before = site.fingerprint()
    refused(site.r1("bootstrap", "--yes"), 5, "PATCH_TAMPERED", name)
    assert site.fingerprint() == before


@pytest.mark.faults
def test_ciphertext_on_the_builder(ready: Cluster, ansible: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The job on the host compares again, with what lies there."""
    mark = f"{TREES}/flagscale-*/patched.json"
    ready.sh("node1", f"for f in {mark}; do mv $f $f.away; done")
    try:
        lock = yaml.safe_load((ready.folder / "r1deploy.lock").read_text())
        wrong = dict.fromkeys(lock["patch"]["ciphertexts"], "0" * 64)
        done = ansible("patch", "node1", patch_ciphertexts=wrong, patch_key_file=str(ready.lab.layout.vendor_key))
        assert done.returncode != 0
        assert "diff.patch.encrypted: sha256" in done.stdout and "r1deploy.lock says 000000000000" in done.stdout
    finally:
        ready.sh("node1", f"for f in {mark}.away; do mv $f ${{f%.away}}; done")
    assert ready.r1("bootstrap", "--yes").code == 0
    assert ready.plan() == []


def test_wheel_is_refused_where_it_was_altered(
    ready: Cluster, ansible: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    wheel = ready.sh("node2", f"ls {TREES}/flagscale-*/wheels/*.whl").strip()
    flip = f"printf X | dd of={wheel} bs=1 seek=500 conv=notrunc status=none"
    ready.sh("node2", f"{flip}; docker exec $(docker ps -q) pip uninstall -qy vllm")
    done = ansible("install", "node2")
    assert done.returncode != 0
    assert Path(wheel).name in done.stdout and "files differ" in done.stdout
    changes = ready.plan()
    assert [(row["step"], row["host"]) for row in changes] == [("vllm", "node2"), ("install", "node2")]
    assert Path(wheel).name in changes[0]["current"]
    assert ready.r1("bootstrap", "--yes").code == 0
    assert ready.plan() == []


def test_trust_key_from_another_address(ready: Cluster, tmp_path: Path) -> None:
    """The head's key, stolen: from this machine it opens nothing."""
    key = tmp_path / "stolen"
    key.write_text(ready.sh("node1", "cat /var/lib/r1deploy/trust/id_ed25519"))
    key.chmod(0o600)
    address = ready.lab.hosts()[1].address
    options = ["-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i", str(key)]
    options += ["-o", f"UserKnownHostsFile={ready.lab.layout.known_hosts}"]
    command = "docker exec flagrelease_bi /bin/bash -c 'true'"
    done = subprocess.run(["ssh", *options, f"root@{address}", command], capture_output=True, text=True, check=False)
    assert done.returncode == 255 and "Permission denied" in done.stderr


# 14: a clone that somebody worked in, or that belongs to somebody else
@pytest.mark.faults
def test_dirty_clone_of_another_owner(ready: Cluster) -> None:
    # Another file may have left a tree without a patch.
    clone = f"$(dirname $(ls {TREES}/flagscale-*/patched.json))/FlagScale"
    ready.sh("node1", f"cd {clone} && echo x >> README.md && chown -R ops . && rm ../patched.json")
    done = ready.r1("bootstrap", "--yes")
    assert done.code == 0, done.err
    assert ready.plan() == []


# 17: a patch that does not apply (the newer one of the history is for training)
@pytest.mark.faults
def test_patch_that_does_not_apply(ready: Cluster, tmp_path: Path) -> None:
    site = apart(ready, tmp_path)
    bare = str(ready.lab.layout.upstreams / "FlagScale.git")
    log = subprocess.run(
        ["git", "-C", bare, "log", "--format=%H %s", "main"], check=True, capture_output=True, text=True
    ).stdout
    newer = next(row.split()[0] for row in log.splitlines() if "training" in row)
    env = site.settings(patch__commit=newer, flagscale__ref=newer)
    done = site.r1("bootstrap", "--yes", env=env)
    refused(done, 6, "PATCH_UNFIT", "node1: patch:", "patch.commit")
    assert "git apply" in done.text and "No valid patches in input" in done.text
    assert ready.plan() == []


# 18: a build that fails is said with its own last lines; the next run goes on at that step
@pytest.mark.faults
def test_build_that_fails(ready: Cluster, tmp_path: Path) -> None:
    site = apart(ready, tmp_path)
    (site.folder / "r1deploy.lock").write_text((ready.folder / "r1deploy.lock").read_text())
    text = (site.folder / "r1deploy.yaml").read_text()
    wrong = 'vllm:\n  build: ["bash clean_vllm.sh", "echo no such header >&2; exit 3"]\n'
    (site.folder / "r1deploy.yaml").write_text(text + wrong)
    done = site.r1("bootstrap", "--yes")
    refused(done, 6, "node1", "vllm", "exit code 3")
    assert "no such header" in done.err and "Log: " in done.err
    assert ready.plan() == []


# 7, 21: what a host lacks, and hosts that are taken for one another
HOSTS_WRONG = [
    ("requests", "mv /usr/lib/python3/dist-packages/requests /root/requests.away",
     "mv /root/requests.away /usr/lib/python3/dist-packages/requests", "TOOLS_MISSING", "python3-requests"),
    ("machine-id", "cp /etc/machine-id /root/id.away 2>/dev/null; cat /root/other-id > /etc/machine-id",
     "cp /root/id.away /etc/machine-id 2>/dev/null || rm -f /etc/machine-id; rm -f /root/id.away",
     "IDENTITY_TWICE", "machine-id"),
    ("loopback", "cp /etc/hosts /root/hosts.away; grep -v node2 /root/hosts.away > /etc/hosts; "
     "echo 127.0.1.1 node2 >> /etc/hosts",
     "cat /root/hosts.away > /etc/hosts; rm /root/hosts.away", "HOSTNAME_LOOPBACK", "node2 is 127.0.1.1"),
    ("clock", "dpkg -L libfaketime | grep '/libfaketime.so.1$' > /etc/ld.so.preload; echo +300s > /etc/faketimerc",
     "rm /etc/ld.so.preload /etc/faketimerc", "CLOCK_SKEW", "s from the median"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "right", "code", "word"), [row[1:] for row in HOSTS_WRONG], ids=[row[0] for row in HOSTS_WRONG]
)
def test_host_that_is_not_as_it_should_be(ready: Cluster, wrong: str, right: str, code: str, word: str) -> None:
    identity = "0123456789abcdef0123456789abcdef"
    first = ready.sh("node1", "cat /etc/machine-id 2>/dev/null || true")
    ready.sh("node1", f"echo {identity} > /etc/machine-id")
    ready.sh("node2", f"echo {identity} > /root/other-id; {wrong}")
    try:
        refused(ready.r1("preflight"), 5, "node2", code, word)
    finally:
        ready.sh("node2", f"{right}; rm -f /root/other-id")
        ready.sh("node1", f"printf '%s' '{first}' > /etc/machine-id")


def test_address_that_the_host_does_not_have(ready: Cluster, tmp_path: Path) -> None:
    site = apart(ready, tmp_path)
    path = site.folder / "inventory.ini"
    address = ready.lab.hosts()[1].address
    path.write_text(path.read_text().replace(f"{address} ", f"{address} r1_address=10.9.9.9 "))
    refused(site.r1("preflight"), 5, "node2", "ADDRESS_ELSEWHERE", "10.9.9.9")
    # field.md 4.5: the second address of an interface is the host's too.
    ready.sh("node2", "ip addr add 10.9.9.9/24 dev eth0")
    try:
        done = site.r1("preflight")
        assert done.code == 0 and "ADDRESS_ELSEWHERE" not in done.text, done.text
    finally:
        ready.sh("node2", "ip addr del 10.9.9.9/24 dev eth0")


# 29: whatever the user's own environment says
@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / ".ansible.cfg").write_text("[defaults]\nstdout_callback = no_such_callback\nforks = nonsense\n")
    yield {
        "HOME": str(tmp_path),
        "ANSIBLE_CONFIG": "/no/such.cfg",
        "ANSIBLE_STDOUT_CALLBACK": "no_such_callback",
        "ANSIBLE_INVENTORY": "/no/such",
        "LC_ALL": "C",
        "LANG": "",
        "PATH": "/usr/bin:/bin",
        "XDG_STATE_HOME": "/proc/no-such-place",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }


def test_controller_with_another_environment(ready: Cluster, hostile: dict[str, str]) -> None:
    ready.sh("node2", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
    done = ready.r1("bootstrap", "--yes", env=hostile)
    assert done.code == 0, done.err
    assert ready.plan() == []


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own, without a byte left."""
    place = tmp_path / "full"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.faults
def test_controller_whose_disk_is_full(ready: Cluster, full: Path) -> None:
    """29: the log and the run's own files give way; what cannot be recorded is not begun."""
    site = apart(ready, full)
    with contextlib.suppress(OSError):
        (full / "fill").write_bytes(bytes(2**20))
    ready.sh("node2", "rm /var/lib/r1deploy/releases/*/config/*/env.sh")
    before = ready.fingerprint()
    refused(site.r1("bootstrap", "--yes"), 3, "LOCK_WRITE", "No space left on device")
    assert ready.fingerprint() == before
    done = ready.r1("bootstrap", "--yes", env={"XDG_STATE_HOME": str(full), "TMPDIR": str(full)})
    assert done.code == 0, done.err
    assert ready.plan() == []


@pytest.mark.faults
def test_no_secret_in_the_loudest_output_of_plain_ansible(ready: Cluster, tmp_path: Path) -> None:
    """25: an exported folder under -vvv: the patch is applied with the vendor's key, the API key is written."""
    key = "canary-of-the-export-9b2e"
    for name, text in (("api-key", key), (SECRET, f"export VLLM_API_KEY={key}\n")):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text)
    env = ready.settings(service__api_key_file=tmp_path / "api-key")
    target = tmp_path / "export"
    assert ready.r1("export", str(target), env=env).code == 0
    ready.sh("node1", f"rm {TREES}/flagscale-*/patched.json")
    argv = ["-e", f"patch_key_file={ready.lab.layout.vendor_key}", "-e", f"config_api_key_file={tmp_path / SECRET}"]
    done = plain_ansible(target, "site.yml", "-vvv", "--diff", *argv)
    try:
        assert done.returncode == 0, done.stdout[-3000:]
        assert json.loads(ready.r1("plan", "--json", env=env).out)["changes"] == []
        ready.sh("node1", f"ls {TREES}/flagscale-*/patched.json")
        assert_nothing_left(ready, done.stdout, done.stderr, api_key=key)
    finally:
        assert ready.r1("bootstrap", "--yes").code == 0
