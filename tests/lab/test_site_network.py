"""A site's proxy, CA and package index: real git and pip against a stand-in proxy and TLS server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from r1deploy.lab.places import gateway, network_prefix
from tests.lab import standin_web as web
from tests.lab.conftest import Cluster
from tests.lab.running import apart, refused

pytestmark = [pytest.mark.lab, pytest.mark.long]
NET = network_prefix()
PASSWORD = "canary-91c2-proxy-password"
# A part that no encoding changes, and characters that end a login, a word or a line where they are not encoded.
TOKEN = "canary-5d1f-git"
LOGIN = f"robot:{TOKEN}@'\"/ #"
LEFT = """
find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /var/lib/docker/overlay2 \\) -prune -o \
  -type f -newer /root/site.start -print0 | xargs -0 -r grep -l -F -e "$0" -- 2>/dev/null
true
"""


@dataclass
class Site:
    """A folder of the user's, behind a proxy."""

    cluster: Cluster
    proxy: web.Proxy
    upstream: web.Upstream

    def change(self, **values: str | None) -> None:
        """Other values of the section ``site``."""
        path = self.cluster.folder / "r1deploy.yaml"
        document = yaml.safe_load(path.read_text())
        document["site"] = {**document.get("site", {}), **values}
        path.write_text(yaml.safe_dump(document))


@pytest.fixture
def site(ready: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Upstreams by https only, behind a proxy with a login, signed by an own CA."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cluster = apart(ready, tmp_path)
    shutil.copy(ready.folder / "r1deploy.lock", tmp_path)
    ca, server = web.certificate(tmp_path, gateway())
    upstream = web.Upstream(gateway(), ready.lab.layout.upstreams, server, web.wheel(tmp_path))
    proxy = web.Proxy(gateway(), f"robot:{PASSWORD}")
    with web.running(upstream), web.running(proxy):
        base = f"https://{gateway()}:{upstream.server_port}"
        path = tmp_path / "r1deploy.yaml"
        document = yaml.safe_load(path.read_text())
        document["flaggems"]["url"] = f"{base}/FlagGems.git"
        document["flagscale"]["url"] = f"{base}/FlagScale.git"
        document["git"] = {"instead_of": {f"git://{NET}.2/vllm.git": f"{base}/vllm.git"}}
        path.write_text(yaml.safe_dump(document))
        found = Site(cluster, proxy, upstream)
        address = f"http://robot:{PASSWORD}@{gateway()}:{proxy.server_port}"
        found.change(https_proxy=address, ca_bundle=str(ca), pip_index_url=f"{base}/simple/")
        yield found


def test_proxy_and_ca_faults_come_before_any_host_changes(site: Site) -> None:
    cluster = site.cluster
    (cluster.folder / "r1deploy.lock").unlink()
    before = cluster.fingerprint()

    def boot(*words: str) -> None:
        done = cluster.r1("bootstrap", "--yes")
        refused(done, 5, *words)
        assert PASSWORD not in done.text

    ca = str(cluster.folder / "ca.pem")
    site.change(ca_bundle=None)
    boot("GIT_TLS", "site.ca_bundle")
    site.change(ca_bundle=ca)
    site.proxy.refuse = True
    boot("GIT_PROXY", "site.https_proxy")
    site.proxy.refuse = False
    site.change(https_proxy=f"http://robot:{PASSWORD}x@{gateway()}:{site.proxy.server_port}")
    boot("GIT_PROXY")
    site.change(https_proxy=f"http://robot:{PASSWORD}@{gateway()}:9")
    boot("GIT_PROXY", gateway())
    assert PASSWORD not in cluster.r1("config", "--sources").text
    assert {row[2] for row in site.proxy.seen} == {200, 403, 407}
    assert cluster.fingerprint() == before


def test_a_build_behind_a_proxy_with_an_own_ca(site: Site) -> None:
    cluster = site.cluster
    path = cluster.folder / "r1deploy.yaml"
    document = yaml.safe_load(path.read_text())
    pip = f"python3 -m pip download --no-deps --no-cache-dir -d /tmp/probe {web.PACKAGE}"
    document["vllm"] = {"build": ["bash clean_vllm.sh", "bash build_vllm.sh", pip]}
    path.write_text(yaml.safe_dump(document))
    direct = f"OUTPUT -d {gateway()} -p tcp --dport {site.upstream.server_port} -j REJECT"
    cluster.sh("node1", f"touch /root/site.start; iptables -I {direct}")
    cluster.sh("node2", "touch /root/site.start")
    try:
        done = cluster.r1("bootstrap", "--yes")
        assert done.code == 0, done.text
    finally:
        cluster.sh("node1", f"iptables -D {direct}")
    # The builder and this machine, by whatever address it has; node2 clones nothing.
    clients = {row[0] for row in site.proxy.seen}
    assert f"{NET}.11" in clients
    assert len(clients) == 2
    assert f"{NET}.12" not in clients
    for name in ("FlagGems", "FlagScale", "vllm"):
        assert f"/{name}.git/git-upload-pack" in site.upstream.seen
    assert f"/{site.upstream.wheel.name}" in site.upstream.seen
    assert PASSWORD not in done.text
    for host in ("node1", "node2"):
        assert cluster.lab.exec(host, "sh", "-c", LEFT, PASSWORD)[1] == ""
        assert "ca.pem" not in cluster.sh(host, "find /var/lib/r1deploy /dev/shm -name '*ca.pem'")
    runs = Path.home() / ".local/state/r1deploy/runs/lab"
    for left in (cluster.folder / "r1deploy.lock", *runs.glob("*bootstrap.jsonl")):
        assert PASSWORD not in left.read_text()
    export = cluster.folder / "export"
    assert cluster.r1("export", str(export)).code == 0
    assert not [row for row in export.rglob("*") if row.is_file() and PASSWORD in row.read_text(errors="replace")]


def test_a_git_login_is_no_argument_and_stays_nowhere(site: Site, tmp_path: Path) -> None:
    """field.md 2.8: tokens in git's URLs; the upstream looks at all processes of the machine while it is asked."""
    cluster, site.upstream.login = site.cluster, LOGIN
    path, state = cluster.folder / "r1deploy.yaml", {"XDG_STATE_HOME": str(tmp_path / "state")}
    (cluster.folder / "r1deploy.lock").unlink()
    refused(cluster.r1("bootstrap", "--yes", env=state), 5, "GIT_AUTH")
    document = yaml.safe_load(path.read_text())
    document["vllm"] = {"build": ["bash clean_vllm.sh", "bash build_vllm.sh", "true"]}
    places = [(document["flaggems"], "url"), (document["flagscale"], "url")]
    for table, key in [*places, *((document["git"]["instead_of"], prefix) for prefix in document["git"]["instead_of"])]:
        table[key] = table[key].replace("https://", f"https://{quote(LOGIN, safe=':')}@")
    path.write_text(yaml.safe_dump(document))
    for host in ("node1", "node2"):
        cluster.sh(host, "touch /root/site.start")
    verbs = (("config", "--sources"), ("bootstrap", "--yes"), ("plan", "--json"))
    said = [cluster.r1(*argv, env=state) for argv in verbs]
    assert [done.code for done in said] == [0, 0, 0], said[1].text
    for name in ("FlagGems", "FlagScale", "vllm"):
        assert f"/{name}.git/git-upload-pack" in site.upstream.seen
    assert site.upstream.argv == []
    for host in ("node1", "node2"):
        assert cluster.lab.exec(host, "sh", "-c", LEFT, TOKEN)[1] == ""
        assert cluster.sh(host, "find /var/lib/r1deploy -name login-0 -o -name login.gitconfig") == ""
    assert cluster.r1("export", str(tmp_path / "export"), env=state).code == 0
    for done in said:
        assert TOKEN not in done.out + done.err
    with_it = [row for row in tmp_path.rglob("*") if row.is_file() and TOKEN.encode() in row.read_bytes()]
    assert with_it == [path]


# 13: a mirror that lacks a commit
def test_a_mirror_that_lacks_the_commit(site: Site, tmp_path: Path) -> None:
    cluster = site.cluster
    old = tmp_path / "old-vllm.git"
    subprocess.run(["git", "init", "-q", "--bare", str(old)], check=True)
    path = cluster.folder / "r1deploy.yaml"
    document = yaml.safe_load(path.read_text())
    document["git"]["instead_of"] = {f"git://{NET}.2/vllm.git": f"file://{old}"}
    document["patch"]["task"] = "another"
    path.write_text(yaml.safe_dump(document))
    before = cluster.fingerprint()
    refused(cluster.r1("bootstrap", "--yes"), 5, "GIT_REF_GONE", "vllm.git", "mirror")
    assert cluster.fingerprint() == before
