"""A checkpoint from a hub: the hub's client is a made-up one, in a process of its own as the real one is."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from r1deploy import session, shipping
from r1deploy.onhost import destination, hub, hubclient, saying, watching
from r1deploy.onhost.saying import Refusal
from tests.onhost.making import put

SHARD, CONFIG = b"s" * 5000, b'{"num_hidden_layers": 2}'
# It does what a file beside it says; each call leaves a line in another one.
CLIENT = """
import json, pathlib
HERE = pathlib.Path(__file__).parent
PLAN = json.loads((HERE / "plan.json").read_text())
class Row:
    def __init__(self, **more): self.__dict__.update(more)
class HubError(Exception):
    def __init__(self, text, status):
        Exception.__init__(self, text)
        self.response = Row(status_code=status)
def called(what):
    with open(HERE / "calls", "a") as stream: stream.write(what + "\\n")
    left = PLAN["errors"].get(what, [])
    number = (HERE / "calls").read_text().split().count(what) - 1
    if number < len(left) and left[number]:
        try:
            raise OSError(left[number][0])
        except OSError as cause:
            raise HubError("it fails", left[number][1]) from cause
class HfApi:
    def model_info(self, repo, revision, files_metadata):
        called("listed")
        print("noise without an end", end="")
        rows = [
            Row(rfilename=f["name"], size=f["size"], blob_id=f["sha1"], lfs=f["sha256"] and Row(sha256=f["sha256"]))
            for f in PLAN["files"]
        ]
        return Row(sha="c" * 40, siblings=rows)
def snapshot_download(repo, revision, local_dir, max_workers):
    called("got")
    assert revision == "c" * 40, revision
    for name, text in PLAN["texts"].items():
        (pathlib.Path(local_dir) / name).write_text(text)
"""


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def row(name: str, data: bytes, **more: Any) -> dict[str, Any]:
    large = name.endswith(".safetensors")
    sha256 = hashlib.sha256(data).hexdigest() if large else None
    return {"name": name, "size": len(data), "sha256": sha256, "sha1": None if large else git_id(data), **more}


class Made:
    """A hub's client in a folder, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.client, self.path = folder / "client", folder / "weights"
        self.plan: dict[str, Any] = {
            "files": [row("a.safetensors", SHARD), row("config.json", CONFIG)],
            "texts": {"a.safetensors": SHARD.decode(), "config.json": CONFIG.decode()},
            "errors": {},
        }

    def order(self) -> dict[str, Any]:
        put(self.client / "huggingface_hub" / "__init__.py", CLIENT)
        put(self.client / "huggingface_hub" / "plan.json", json.dumps(self.plan))
        return {
            "hub": "huggingface", "repo": "a/b", "revision": None, "path": str(self.path), "workers": 2,
            "client": str(self.client), "client_bytes": 0, "env": {},
        }  # fmt: skip

    def pull(self) -> dict[str, Any]:
        return hub.pull(self.order())

    def calls(self) -> list[str]:
        return (self.client / "huggingface_hub" / "calls").read_text().split()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(destination, "LOCKS", str(tmp_path / "run"))
    monkeypatch.setattr(watching, "TICK", 0.05)
    monkeypatch.setattr(watching, "say", lambda *_, **__: None)
    monkeypatch.setattr(hub, "say", lambda *_, **__: None)
    return Made(tmp_path)


def test_a_checkpoint_and_its_sums(made: Made) -> None:
    total = len(SHARD) + len(CONFIG)
    assert made.pull() == {"revision": "c" * 40, "files": 2, "bytes": total, "downloaded": total}
    digests = (hashlib.sha256(SHARD).hexdigest(), hashlib.sha256(CONFIG).hexdigest())
    assert (made.path / "SHA256SUMS").read_text() == f"{digests[0]}  a.safetensors\n{digests[1]}  config.json\n"
    assert made.calls() == ["listed", "got"]
    assert made.pull()["downloaded"] == 0, "all of it is here"


def test_a_connection_that_breaks_is_begun_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(hub, "say", lambda kind, text: said.append(text))
    made.plan["errors"] = {"got": [["Read timed out", None], ["ConnectionError", None], None]}
    made.pull()
    assert made.calls() == ["listed", "got", "got", "got"]
    assert [text.partition("; ")[2] for text in said] == ["going on, 3 more times", "going on, 2 more times"]


def test_not_for_ever(made: Made) -> None:
    made.plan["errors"] = {"got": [["timed out", None]] * 9}
    with pytest.raises(Refusal, match="the hub does not answer") as error:
        made.pull()
    assert error.value.code == "HUB_NO_ROUTE" and made.calls().count("got") == hub.ATTEMPTS


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("[Errno 28] No space left on device", None, "DISK_FULL"),
        ("SSL: CERTIFICATE_VERIFY_FAILED", None, "HUB_TLS"),
        ("401 Client Error", 401, "HUB_AUTH"),
        ("403 Client Error", 403, "HUB_AUTH"),
        ("Gated repo", None, "HUB_AUTH"),
        ("404 Client Error", 404, "HUB_MISSING"),
        ("EntryNotFound: Connect refused", None, "HUB_NO_ROUTE"),
        ("RevisionNotFound", None, "HUB_MISSING"),
        ("a bug of theirs", None, "HUB_FAILED"),
    ],
)
def test_causes(made: Made, said: str, status: int | None, code: str) -> None:
    made.plan["errors"] = {"listed": [[said, status]]}
    with pytest.raises(Refusal) as error:
        made.pull()
    assert error.value.code == code
    assert error.value.tail == ["HubError: it fails", f"OSError: {said}"], "the cause of the cause too"


def test_a_client_that_cannot_be_imported(made: Made) -> None:
    order = {**made.order(), "hub": "modelscope"}
    with pytest.raises(Refusal) as error:
        hub.ask(order, "listed")
    assert error.value.tail == ["ModuleNotFoundError: No module named 'modelscope'"]


@pytest.mark.parametrize(
    ("texts", "code", "words"),
    [
        ({"a.safetensors": SHARD.decode()}, "HUB_FAILED", "left out, or cut: config.json"),
        ({"a.safetensors": "short", "config.json": CONFIG.decode()}, "HUB_FAILED", "left out, or cut: a.safetensors"),
        (
            {"a.safetensors": SHARD.decode(), "config.json": "x" * len(CONFIG)},
            "WEIGHTS_DAMAGED",
            "config.json is not what",
        ),
    ],
    ids=["left out", "cut", "another content"],
)
def test_what_came_is_checked(made: Made, texts: dict[str, str], code: str, words: str) -> None:
    made.plan["texts"] = texts
    with pytest.raises(Refusal, match=words) as error:
        made.pull()
    assert error.value.code == code and not (made.path / "SHA256SUMS").exists()


def test_too_large_for_the_disk(made: Made) -> None:
    made.plan["files"].append(row("b.safetensors", b"", size=1 << 60))
    with pytest.raises(Refusal, match="are to come") as error:
        made.pull()
    assert error.value.code == "DISK_FULL" and made.calls() == ["listed"], "nothing is downloaded"


def test_modelscope_s_answers(tmp_path: Path) -> None:
    put(tmp_path / "modelscope" / "__init__.py", "")
    api = """
class HubApi:
    def get_model_files(self, repo, revision, recursive):
        return [{"Path": "deep", "Size": 0, "Type": "tree"},
                {"Path": "deep/a", "Size": 3, "Type": "blob", "Sha256": "x"}, {"Path": "b", "Size": 1, "Type": "blob"}]
"""
    put(tmp_path / "modelscope" / "hub" / "__init__.py", "")
    put(tmp_path / "modelscope" / "hub" / "api.py", api)
    order = {"hub": "modelscope", "repo": "r", "revision": "v1", "path": "", "workers": 1, "client": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, hubclient.__file__, "listed", json.dumps(order)], capture_output=True, text=True, check=True
    )
    assert hub.answer_in(done.stdout.splitlines()) == {
        "done": {
            "revision": "v1",
            "files": [
                {"name": "deep/a", "size": 3, "sha256": "x", "sha1": None},
                {"name": "b", "size": 1, "sha256": None, "sha1": None},
            ],
        }
    }


def test_the_client_comes_with_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as members:
        members.add(put(tmp_path / "x.py", "1"), "pkg/x.py")
    data = packed.getvalue()

    class Stdin:
        buffer = io.BytesIO(data + b"more")

    put(tmp_path / "state" / "client" / "old.py", "of another version")
    monkeypatch.setattr(sys, "stdin", Stdin)
    hub.unpack(str(tmp_path / "state" / "client"), len(data))
    assert [path.name for path in (tmp_path / "state").rglob("*.py")] == ["x.py"]
    assert len(list((tmp_path / "state").iterdir())) == 1, "nothing is left beside it"


def test_the_client_s_script_is_read_from_the_archive_too(made: Made, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(shipping.archive("checkpointwork"))
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from onhost import hub; "
        "print(hub.ask(json.loads(sys.argv[2]), 'listed')['revision'])"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "archive"), json.dumps(made.order())]
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False)
    assert done.stdout.splitlines()[-1:] == ["c" * 40], done.stderr


def test_one_mark_for_all() -> None:
    assert hubclient.MARK == saying.MARK == session.MARK
