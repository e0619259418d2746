"""The lock file: written whole, read exactly or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1deploy.errors import ConfigError
from r1deploy.settings import lockfile

HEX = "0123456789" * 4
SHA = "ab" * 32
LOCK = lockfile.Lock(
    flaggems=lockfile.LockedSource(url="https://git.example/a.git", ref="main", commit=HEX),
    flagscale=lockfile.LockedSource(url="git@git.example:b.git", ref=HEX, commit=HEX),
    patch=lockfile.LockedPatch(commit=HEX, ciphertexts={"b/y": SHA, "a/x": SHA}),
    image=lockfile.LockedImage(name="baai:v5", id=f"sha256:{SHA}", tarball_sha256=SHA),
)


@pytest.mark.parametrize("lock", [LOCK, lockfile.Lock(), lockfile.Lock(image=lockfile.LockedImage(name="x"))])
def test_lock_round_trip(tmp_path: Path, lock: lockfile.Lock) -> None:
    path = tmp_path / lockfile.FILE_NAME
    lockfile.write(path, lock)
    first = path.read_bytes()
    assert lockfile.read(path) == lock
    lockfile.write(path, lock)
    assert path.read_bytes() == first
    assert first.startswith(b"# ") and b"null" not in first
    assert [item.name for item in tmp_path.iterdir()] == [lockfile.FILE_NAME]
    assert path.stat().st_mode & 0o777 == 0o644


def test_lock_is_sorted(tmp_path: Path) -> None:
    lockfile.write(tmp_path / "l", LOCK)
    text = (tmp_path / "l").read_text(encoding="utf-8")
    assert text.index("a/x") < text.index("b/y")
    assert text.index("flaggems:") < text.index("image:") < text.index("version: 1")


def test_no_lock(tmp_path: Path) -> None:
    assert lockfile.read(tmp_path / "none") is None


def test_no_login_in_the_lock(tmp_path: Path) -> None:
    source = lockfile.LockedSource(url="https://me:hunter2@git.example/a.git", ref="main", commit=HEX)
    lockfile.write(tmp_path / "l", lockfile.Lock(flaggems=source))
    assert "https://git.example/a.git" in (tmp_path / "l").read_text(encoding="utf-8")
    assert "hunter2" not in (tmp_path / "l").read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l"
    lockfile.write(path, LOCK)

    def broken(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(ConfigError) as caught:
        lockfile.write(path, lockfile.Lock())
    assert caught.value.code == "LOCK_WRITE"
    assert lockfile.read(path) == LOCK
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "version"),
        ("version: 2\n", "version"),
        ("version: true\n", "version"),
        ("version: 1\nother: 1\n", ":2: other"),
        ("version: 1\nflaggems: {url: x, ref: y, commit: abc}\n", "flaggems.commit"),
        ("version: 1\npatch: {commit: '" + HEX + "', ciphertexts: {a: b}}\n", "ciphertexts.a"),
        ("version: 1\nimage: {name: x, id: abc}\n", "image.id"),
        ("version: 1\nversion: 1\n", "twice"),
        ("<<<<<<< HEAD\nversion: 1\n=======\n", "not YAML"),
        ("[1]\n", "key: value"),
    ],
)
def test_bad_lock(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "r1deploy.lock"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        lockfile.read(path)
    assert caught.value.code == "LOCK_INVALID"
    assert says in caught.value.message and str(path) in caught.value.message
