"""The folder that a checkpoint is written to: room, and one writer at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1deploy.onhost import destination
from r1deploy.onhost.saying import Refusal
from tests.onhost.making import put


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(destination, "LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def test_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    assert destination.there(str(tmp_path / "a" / "b")) == str(tmp_path)
    assert destination.free_bytes(str(tmp_path / "a" / "b")) > 0


def test_what_has_no_room_is_refused_before_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination, "free_bytes", lambda _: 1 << 30)
    destination.refuse_too_much(str(tmp_path / "a"), 1 << 30)
    with pytest.raises(Refusal, match=rf"^2.0 GiB are to come, 1.0 GiB are free in {tmp_path}$") as error:
        destination.refuse_too_much(str(tmp_path / "a"), 2 << 30)
    assert error.value.code == "DISK_FULL"


def test_sizes(tmp_path: Path) -> None:
    put(tmp_path / "a", "12")
    put(tmp_path / "deep" / ".b", "123")
    (tmp_path / "dangling").symlink_to("/no/such")
    assert destination.sizes_below(str(tmp_path)) == {"a": 2, "deep/.b": 3}
    assert destination.length_of(str(tmp_path / "a")) == 2
    assert destination.length_of(str(tmp_path / "none")) is None


def test_one_writer_at_a_time(tmp_path: Path, locks: Path) -> None:
    path = str(tmp_path / "weights")
    with destination.alone(path):
        with (
            pytest.raises(Refusal, match=r"another run writes to .*weights \(pid \d+ since ") as error,
            destination.alone(path),
        ):
            pass
        with destination.alone(path + "2"):
            pass
    assert error.value.code == "WEIGHTS_BUSY"
    with destination.alone(path):
        pass
    assert locks.stat().st_mode & 0o777 == 0o700
