"""Bytes and seconds in words, and the bar over many hosts."""

from __future__ import annotations

import pytest

from r1deploy.ui import transfer
from r1deploy.units import duration, size_of


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (3 << 20, "3.0 MiB"), (671 * 10**9, "624.9 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size_of(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_bar_over_two_hosts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(transfer.time, "monotonic", lambda: now[0])
    bar = transfer.Transfer("push")
    for seconds, host, done in ((11, "a", 0), (12, "b", 0), (31, "a", 40 << 20), (32, "b", 1), (42, "b", 60 << 20)):
        now[0] = float(seconds)
        bar.bar(host, done, 100 << 20)
    bar.bar("a", 0, 0)  # a sign of life
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("push a, b [####................] 40.0 MiB of 200.0 MiB")
    # 100 MiB in the 31 s since the first row.
    assert lines[2] == "push a, b [##########..........] 100.0 MiB of 200.0 MiB, 3.2 MiB/s, 31 s left"
    assert len(lines) == 3, "one line in ten seconds without a terminal"
