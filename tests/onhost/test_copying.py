"""The copy of a checkpoint from the host that offers it, with the real rsync on the loopback address."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import copying, destination, offer, watching
from r1deploy.onhost.saying import Refusal
from tests.onhost.making import put

PASSWORD = "password-of-the-run"
needs_rsync = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("rsync"), reason="needs root and rsync")


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(destination, "LOCKS", str(tmp_path / "run"))
    monkeypatch.setattr(offer, "PLACE", str(tmp_path / "run"))
    monkeypatch.setattr(watching, "say", lambda *_, **__: None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    put(tmp_path / "source" / "a.safetensors", b"a" * 100_000)
    put(tmp_path / "source" / "deep" / "b.json", "{}")
    put(tmp_path / "source" / ".r1deploy-mark", "not a part of it")
    return tmp_path / "source"


@pytest.fixture
def offered(source: Path) -> Iterator[int]:
    """The port at which the source is offered."""
    gone, ready = threading.Event(), threading.Event()
    row: dict[str, Any] = {}

    def say(kind: str, **more: Any) -> None:
        if kind == "ready":
            row.update(more)
            ready.set()
        if gone.is_set():
            raise BrokenPipeError

    def run() -> None:
        order = {"path": str(source), "address": "127.0.0.1", "allowed": ["127.0.0.1"], "password": PASSWORD}
        with contextlib.suppress(BrokenPipeError):
            offer.serve(order, say)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield int(row["port"])
    gone.set()
    thread.join(10)


def order(source: Path, path: Path, port: int, **more: Any) -> dict[str, Any]:
    sizes = {name: size for name, size in destination.sizes_below(str(source)).items() if not name.startswith(".")}
    made = {"path": str(path), "address": "127.0.0.1", "port": port, "password": PASSWORD, "sizes": sizes}
    return {**made, "names": None, **more}


@needs_rsync
def test_all_that_belongs_to_a_checkpoint_comes(source: Path, offered: int, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert copying.fetch(order(source, target, offered)) == {}
    assert destination.sizes_below(str(target)) == {"a.safetensors": 100_000, "deep/b.json": 2}


@needs_rsync
def test_damaged_files_are_copied_by_name(source: Path, offered: int, tmp_path: Path) -> None:
    """Whatever their size and time say."""
    target = tmp_path / "target"
    copying.fetch(order(source, target, offered))
    path, before = target / "a.safetensors", (source / "a.safetensors").stat()
    put(path, b"b" * 100_000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    copying.fetch(order(source, target, offered))
    assert path.read_bytes()[:1] == b"b"
    copying.fetch(order(source, target, offered, names=["a.safetensors"]))
    assert path.read_bytes() == b"a" * 100_000


@needs_rsync
@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"port": 1}, "PEER_UNREACHABLE"),
        ({"password": "wrong"}, "WEIGHTS_COPY_FAILED"),
        ({"names": ["no"]}, "WEIGHTS_COPY_FAILED"),
    ],
    ids=["nobody there", "another password", "no such file"],
)
def test_what_can_go_wrong(source: Path, offered: int, tmp_path: Path, more: dict[str, Any], code: str) -> None:
    with pytest.raises(Refusal) as error:
        copying.fetch({**order(source, tmp_path / "target", offered), **more})
    assert error.value.code == code
    assert error.value.tail, "rsync's own words"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("rsync: write failed: No space left on device (28)", "DISK_FULL"),
        ("rsync: failed to connect to 10.0.0.1: No route to host (113)", "PEER_UNREACHABLE"),
        ("[Receiver] io timeout after 60 seconds -- exiting", "PEER_UNREACHABLE"),
        ("protocol version mismatch", "WEIGHTS_COPY_FAILED"),
    ],
)
def test_causes(line: str, code: str) -> None:
    with pytest.raises(Refusal) as error:
        copying.refuse(10, ["before", line], "10.0.0.1:873")
    assert (error.value.code, error.value.tail) == (code, ["before", line])


@pytest.mark.parametrize(
    ("lay", "wanted"),
    [
        (lambda top: None, 0),
        (lambda top: put(top / "deep" / "a", "1234"), 4),
        (lambda top: put(top / "deep" / "a", "1234567890"), 8),
        (lambda top: put(top / "deep" / copying.PARTIAL / "a", "123"), 3),
        (lambda top: put(top / "deep" / ".a.Xy12", "12"), 2),
        (lambda top: put(top / "deep" / ".ab.Xy12", "12"), 0),
    ],
    ids=["no folder yet", "whole", "longer than it should be", "interrupted", "under way", "of another file"],
)
def test_how_much_of_a_file_is_here(tmp_path: Path, lay: Callable[[Path], object], wanted: int) -> None:
    lay(tmp_path)
    assert copying.received(str(tmp_path), {"deep/a": 8}) == wanted
