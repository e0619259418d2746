"""The checkpoint on real hosts: shared and not, whole and not, pulled from a stand-in hub with the hub's own client."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from r1deploy.lab import standinweights
from r1deploy.lab.places import gateway
from tests.lab import hub
from tests.lab.conftest import HOSTS, Cluster, Ran

pytestmark = [pytest.mark.lab, pytest.mark.long]
LOCAL = "/srv/r1weights"
PLACE = f"{LOCAL}/models/checkpoint"
SHARDS = [f"model-{number}.safetensors" for number in (1, 2, 3)]
STATE = "/var/lib/r1deploy/weights.json"


def checkpoint(size: int = 2 << 20) -> dict[str, bytes]:
    """Files of a checkpoint with random bytes; the numbers mean nothing."""
    found, index, dice = {}, {}, random.Random(1)
    for number, name in enumerate(SHARDS):
        tensor = f"model.layers.{number}.weight"
        data = standinweights.safetensors({tensor: (size,)})
        found[name] = data[:-size] + dice.randbytes(size)
        index[tensor] = name
    config = {"architectures": ["DeepseekV3ForCausalLM"], "num_hidden_layers": 3}
    found["config.json"] = json.dumps(config).encode()
    found["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
    return found


FILES = checkpoint()


def lay(cluster: Cluster, host: str, files: dict[str, bytes]) -> None:
    """Put files into the checkpoint's folder of a host."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), 1_700_000_000
            archive.addfile(entry, io.BytesIO(data))
    cluster.sh(host, f"mkdir -p {PLACE}")
    code, out = cluster.lab.exec(host, "tar", "-xf", "-", "-C", PLACE, stdin=stream.getvalue())
    assert code == 0, out


def sums(cluster: Cluster, host: str) -> dict[str, str]:
    """sha256 of the files that a host has, as sha256sum finds them."""
    rows = cluster.sh(host, f"cd {PLACE} && find . -type f -not -path './.*' | xargs -r sha256sum").splitlines()
    return {row.split()[1][2:]: row.split()[0] for row in rows}


WANTED = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """The same hosts, with the checkpoint in a folder that each of them has for itself."""
    settings = yaml.safe_load((cluster.folder / "r1deploy.yaml").read_text())
    settings["container"] = {"volumes": ["/dev:/dev", f"{LOCAL}:/data1"]}
    settings["engine"]["model"] = "/data1/models/checkpoint"
    (tmp_path / "r1deploy.yaml").write_text(yaml.safe_dump(settings))
    shutil.copy(cluster.folder / "inventory.ini", tmp_path)
    found = Cluster(cluster.lab, tmp_path)
    for host in HOSTS:
        found.sh(host, f"rm -rf {LOCAL} {STATE}")
    yield found
    left = {host: found.sh(host, REMAINS) for host in HOSTS}
    for host in HOSTS:
        found.sh(host, f"umount {LOCAL} 2>/dev/null; rm -rf {LOCAL} {STATE} /var/lib/r1deploy/hub")
    # field.md 2.15: what gave to others, and knew the secret of the run, is gone when the command has ended.
    assert left == dict.fromkeys(HOSTS, ""), "something of a run stayed on a host"


# Processes of a relay: its name is the last word of the command.
RELAYS = "ps -eo args | grep -E '[ ](relay|filework)$' || true"
REMAINS = f"""
{RELAYS}
ls -d /run/r1deploy/*-weights.json 2>/dev/null
find /srv /mnt/share -name '.r1deploy-????????????????' 2>/dev/null
true
"""


SENT = "cat /sys/class/net/*/statistics/tx_bytes | sort -n | tail -1"


def refused(done: Ran, exit_code: int, *words: str) -> None:
    assert done.code == exit_code, done.text
    for word in words:
        assert word in done.text, (word, done.text)
    assert "Traceback" not in done.text


def test_share_is_found_and_nothing_is_brought(cluster: Cluster) -> None:
    done = cluster.r1("weights", "push")
    assert (done.code, done.out) == (0, "node2: the same folder as on node1 (a share), nothing to bring.\n")
    done = cluster.r1("weights", "verify")
    assert done.code == 0 and "node1, node2: weights: 3 shards" in done.out
    assert cluster.sh("node1", REMAINS) == cluster.sh("node2", REMAINS) == ""


def test_pushed_where_it_is_not_shared_then_remembered(site: Cluster) -> None:
    lay(site, "node1", FILES)
    refused(site.r1("preflight"), 5, f"node2: weights: {PLACE} is not there", "r1deploy weights push")
    done = site.r1("weights", "push")
    assert done.code == 0, done.err
    assert done.out == "node2: 5 files, 6.0 MiB, as on node1, verified.\n"
    assert sums(site, "node2") == WANTED
    done = site.r1("weights", "push")
    assert done.code == 0 and "from host to host" not in done.text, "an unchanged run sends nothing"
    done = site.r1("weights", "verify", "--json")
    assert done.code == 0, done.out
    rows = {(row["host"], row["name"]): row["detail"] for row in json.loads(done.out)["checks"]}
    assert rows["node2", "same weights"] == "the same bytes as on node1"
    for host in HOSTS:
        assert "0 bytes read" in rows[host, "weights sha256"], "remembered since the push"


def test_damage_is_named_and_push_mends_it(site: Cluster, tmp_path: Path) -> None:
    for host in HOSTS:
        lay(site, host, FILES)
    assert site.r1("weights", "verify").code == 0
    # Other bytes of the same length, with the time set back: only ctime tells that it has to be read again.
    site.sh(
        "node2",
        f"cd {PLACE} && touch -r {SHARDS[2]} /tmp/t && printf x | dd of={SHARDS[2]} bs=1 seek=9000 conv=notrunc "
        f"status=none && touch -r /tmp/t {SHARDS[2]} && rm /tmp/t",
    )
    manifest = tmp_path / "sums.txt"
    manifest.write_text("".join(f"{digest}  {name}\n" for name, digest in WANTED.items()))
    done = site.r1("weights", "verify", "--set", f"weights.manifest={manifest}")
    refused(done, 5, "node1: weights sha256: 5 files as in", "node2: weights sha256:", "WEIGHTS_DIFFER")
    refused(done, 5, f"{SHARDS[2]} has another sha256", f"{SHARDS[2]} differ from node1's")
    # Besides, a shard that is cut and one that is gone.
    site.sh("node2", f"cd {PLACE} && truncate -s -4 {SHARDS[0]} && rm {SHARDS[1]}")
    whole = len(FILES[SHARDS[0]])
    words = (f"missing {SHARDS[1]}", f"{SHARDS[0]} ({whole - 4} of {whole} bytes)", "WEIGHTS_DAMAGED")
    refused(site.r1("weights", "verify"), 5, "node2: weights:", *words)
    refused(site.r1("weights", "push", "--from", "node2"), 5, "node2:", f"missing {SHARDS[1]}")
    assert site.r1("weights", "push").code == 0
    assert sums(site, "node2") == WANTED


def test_manifest_that_is_none(site: Cluster, tmp_path: Path) -> None:
    lay(site, "node1", FILES)
    manifest = tmp_path / "sums.txt"
    manifest.write_text(f"{WANTED[SHARDS[0]]}  {SHARDS[0]}\n")
    done = site.r1("weights", "verify", "--set", f"weights.manifest={manifest}")
    refused(done, 5, "MANIFEST_INVALID", f"does not name {SHARDS[1]}, {SHARDS[2]}")
    manifest.write_text("hello\n")
    done = site.r1("weights", "push", "--set", f"weights.manifest={manifest}")
    refused(done, 5, "MANIFEST_INVALID", "line 1")


def test_no_room_is_found_before_a_byte_moves(site: Cluster) -> None:
    lay(site, "node1", FILES)
    site.sh("node2", f"mkdir -p {LOCAL} && mount -t tmpfs -o size=4m tmpfs {LOCAL}")
    refused(site.r1("weights", "push"), 5, "node2: 6.0 MiB are to come, 4.0 MiB are free", "DISK_FULL")
    assert site.sh("node2", f"find {LOCAL} -type f") == ""


def test_a_link_where_a_folder_should_be_is_not_followed(site: Cluster) -> None:
    lay(site, "node1", {**FILES, "sub/more.json": b"{}"})
    site.sh("node2", f"mkdir -p {PLACE} /srv/elsewhere && ln -s /srv/elsewhere {PLACE}/sub")
    refused(site.r1("weights", "push"), 6, "WEIGHTS_COPY_FAILED", "node2: weights:", "no folder but a link")
    assert site.sh("node2", "find /srv/elsewhere -type f; rm -r /srv/elsewhere") == ""


def test_killed_push_ends_on_the_hosts_and_goes_on(site: Cluster) -> None:
    files = checkpoint(8 << 20)
    lay(site, "node1", files)
    slow = "tc qdisc add dev eth0 root tbf rate 16mbit burst 64k latency 400ms"
    site.sh("node1", slow)
    try:
        argv = [sys.executable, "-m", "r1deploy", "weights", "push"]
        process = subprocess.Popen(argv, cwd=site.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        until = time.monotonic() + 60
        while not site.lab.exec("node2", "sh", "-c", f"find {PLACE} -name '.r1part-*' -size +5M 2>/dev/null")[1]:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        until = time.monotonic() + 15
        while site.sh("node1", RELAYS) + site.sh("node2", RELAYS):
            assert time.monotonic() < until, "a relay goes on without its controller"
            time.sleep(0.3)
    finally:
        site.sh("node1", "tc qdisc del dev eth0 root")
    kept = site.sh("node2", f"find {PLACE} -type f").splitlines()
    assert f"{PLACE}/{SHARDS[-1]}" not in kept, "a file has its name before it is whole"
    had = sum(int(row) for row in site.sh("node2", f"find {PLACE} -type f -printf '%s\\n'").split())
    assert had > 5 << 20 and any("/.r1part-" in name for name in kept), kept
    before = int(site.sh("node1", SENT))
    assert site.r1("weights", "push").code == 0
    assert int(site.sh("node1", SENT)) - before < (25 << 20) - had, "it goes on inside of a file"
    assert sums(site, "node2") == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


# Hugging Face's client writes in pieces of 10 MB: what is cut before the first one begins anew.
LARGE = 16 << 20


@pytest.fixture(scope="module")
def served() -> Iterator[hub.Hub]:
    with hub.running(gateway(), checkpoint(LARGE)) as found:
        yield found


def pull(site: Cluster, served: hub.Hub, *more: str) -> Ran:
    sets = ("weights.hub=huggingface", f"weights.repo={hub.REPO}", f"weights.env={{HF_ENDPOINT: '{served.url}'}}")
    return site.r1("weights", "pull", *(word for item in (*sets, *more) for word in ("--set", item)), timeout=400)


def test_pull_goes_on_after_cut_connections(site: Cluster, served: hub.Hub) -> None:
    served.cut, served.cuts = 13 << 20, 2
    done = pull(site, served)
    assert done.code == 0, done.text
    assert served.cuts == 0 and any(served.ranges(name) for name in SHARDS), served.asked
    assert "node1: 5 files, 48.0 MiB of 48.0 MiB downloaded" in done.err
    assert "5 files as in SHA256SUMS" in done.text
    found = sums(site, "node1")
    assert {name: found[name] for name in SHARDS} == {name: hub.sha256(served.files[name]) for name in SHARDS}
    before = len(served.asked)
    done = pull(site, served)
    assert done.code == 0 and "0 bytes of 48.0 MiB downloaded" in done.err
    assert not any(".safetensors" in path and "resolve" in path for path, _ in served.asked[before:])
    served.files = {**served.files, SHARDS[0]: served.files[SHARDS[0]][:-1] + b"!"}
    served.lies = frozenset({SHARDS[0]})
    site.sh("node1", f"rm -rf {PLACE}")
    try:
        refused(pull(site, served), 5, "WEIGHTS_DAMAGED", SHARDS[0])
    finally:
        served.files, served.lies = checkpoint(LARGE), frozenset()


def test_hub_refuses(site: Cluster, served: hub.Hub) -> None:
    refused(pull(site, served, "weights.repo=no/such"), 6, "HUB_MISSING", "node1: the hub has no no/such")
    served.login = True
    try:
        refused(pull(site, served), 6, "HUB_AUTH", "HF_TOKEN")
    finally:
        served.login = False
    refused(pull(site, served, "weights.env={HF_ENDPOINT: 'http://127.0.0.1:9'}"), 6, "HUB_NO_ROUTE")
    assert site.sh("node1", f"find {LOCAL} -type f 2>/dev/null; true") == ""
