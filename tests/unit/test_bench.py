"""The benchmark's own arithmetic: medians, ratios, the files of results, and what a command costs."""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import counters, fanout, figures, loopback, results, rounds, tables
from benchmarks.figures import Found
from benchmarks.rerun import SLEEPING
from benchmarks.rounds import Around, Turns, Way

RUN = {
    "time": "2026-01-01T00:00:00Z",
    "rounds": 3,
    "machine": {"cores": 2, "cpu": "a processor", "memory_gib": 23.5, "load": 0.1, "system": "Debian"},
    "versions": {"r1deploy": "abc", "Python": "3.11"},
}
CASES = {
    "2": {
        "r1deploy": {"wall": [3.0, 1.0, 2.0], "cpu": [1.0, 1.0, 1.0]},
        "ssh": {"wall": [1.0, 1.0, 4.0], "cpu": [0.5, 0.5, 0.5]},
    }
}


def test_a_median_is_not_a_mean_and_nothing_measured_is_an_error() -> None:
    assert figures.spread([9.0, 1.0, 2.0]) == (1.0, 2.0, 9.0)
    assert figures.spread([1.0, 2.0]) == (1.0, 1.5, 2.0)
    with pytest.raises(ValueError, match="nothing"):
        figures.spread([])


def test_ratios_are_of_the_same_round() -> None:
    assert figures.ratios([3.0, 1.0, 2.0], [1.0, 1.0, 4.0]) == [3.0, 1.0, 0.5]
    assert figures.ratios_of(CASES["2"], ("wall", "r1deploy", "ssh")) == (0.5, 1.0, 3.0)
    assert figures.ratios_of(CASES["2"], ("wall", "pyinfra", "r1deploy")) is None
    assert figures.ratios_of(CASES["2"], ("sent_mib", "r1deploy", "ssh")) is None
    with pytest.raises(ValueError, match="argument"):
        figures.ratios([1.0], [1.0, 2.0])


def test_results_of_one_part_leave_the_others() -> None:
    first = results.merged({}, "rerun", Found(CASES, ["a note"]), RUN)
    assert first["rerun"] == {"2": {"r1deploy": 2.0, "ssh": 1.0}}
    other = {"2": {"--help": {"wall": [0.2]}}}
    second = results.merged(first, "cli", Found(other), RUN)
    assert second["rerun"] == first["rerun"] and second["details"]["rerun"] == CASES
    assert second["cli"] == {"2": {"--help": 0.2}} and second["runs"]["rerun"]["notes"] == ["a note"]
    third = results.merged(second, "rerun", Found({"16": {"ssh": {"wall": [1.0]}}}), RUN)
    assert third["rerun"] == {"16": {"ssh": 1.0}}, "a part is of one run"
    assert second["rerun"] == first["rerun"], "what was there is not altered"


def test_results_are_read_and_written_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert results.read(path) == {}
    results.write(path, json.dumps(results.merged({}, "rerun", Found(CASES), RUN)))
    assert results.read(path)["rerun"]["2"]["ssh"] == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    for text in ("{", '{"schema": 0}', "[]"):
        path.write_text(text)
        with pytest.raises(SystemExit, match="remove it"):
            results.read(path)


def test_the_page_has_each_way_and_the_ratios_that_bars_speak_of() -> None:
    page = tables.page(results.merged({}, "rerun", Found(CASES, ["how to read it"]), RUN))
    assert "| case | way | wall s | CPU s |" in page
    assert "| 2 | r1deploy | 1.00 / **2.00** / 3.00 | 1.00 / **1.00** / 1.00 |" in page
    assert "| 2 | wall | r1deploy / ssh | 0.50 / 1.00 / 3.00 |" in page
    assert "- how to read it" in page and "2 cores (a processor)" in page and "pyinfra" not in page
    assert "## Re-run with nothing to do" in page and "Fan-out" not in page


def test_a_way_without_a_quantity_has_an_empty_cell() -> None:
    cases = {"image": {"limit": {"wall": [20.0]}, "r1deploy": {"wall": [25.0], "sent_mib": [256.0]}}}
    page = tables.page(results.merged({}, "fanout", Found(cases), RUN))
    assert "| image | limit | 20.00 / **20.00** / 20.00 | – |" in page
    assert "| image | wall | limit / r1deploy | 0.80 / 0.80 / 0.80 |" in page
    assert "| image | r1deploy | 25.00 / **25.00** / 25.00 | 256 / **256** / 256 |" in page


SPIN = "import time; start = time.process_time()\nwhile time.process_time() - start < 0.3: pass\n"
IN_BACKGROUND = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SPIN!r} + "open('spun', 'w').close(); time.sleep(60)"])
while not os.path.exists("spun"): time.sleep(0.01)
open("pid", "w").write(str(child.pid))
"""


def test_what_goes_into_the_background_counts_and_is_ended(tmp_path: Path) -> None:
    row = rounds.measure(Way([[sys.executable, "-c", IN_BACKGROUND]], tmp_path))
    assert row["cpu"] >= 0.3 and row["wall"] < 60
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


INTERRUPTED = """
import pathlib, sys
from benchmarks.rounds import Way, measure
script = "echo $$ > pid; mv pid started; sleep 600"
measure(Way([["sh", "-c", script]], pathlib.Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_is_interrupted_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    argv = [sys.executable, "-c", "import signal; signal.signal(2, signal.default_int_handler)\n" + INTERRUPTED]
    own = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([*argv, str(tmp_path)], env=own, stderr=subprocess.DEVNULL)
    started = tmp_path / "started"
    until(started.exists)
    process.send_signal(number)
    assert process.wait(60) != 0
    until(lambda: not Path(f"/proc/{started.read_text().strip()}").exists())


def until(true: Callable[[], bool]) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


MEET = """
import pathlib, sys, time
pathlib.Path(sys.stdin.read()).touch()
while len(list(pathlib.Path().glob("m*"))) < 2: time.sleep(0.01)
"""


def test_commands_run_at_once_and_read_their_files(tmp_path: Path) -> None:
    for number in "12":
        (tmp_path / number).write_text(f"m{number}")
    way = Way([[sys.executable, "-c", MEET]] * 2, tmp_path, [tmp_path / "1", tmp_path / "2"], whole=True)
    assert rounds.measure(way).keys() == {"wall", "cpu", "memory_mib", "memory_all_mib"}


def test_a_command_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"(?s)code 3 .*the reason"):
        rounds.measure(Way([["sh", "-c", "echo the reason; exit 3"]], tmp_path))
    assert rounds.measure(Way([["sh", "-c", "exit 3"]], tmp_path, codes=(3,)))["wall"] > 0


def test_rounds_go_in_turn_and_the_first_is_thrown_away(tmp_path: Path) -> None:
    order, count = [], iter(range(100))  # type: ignore[var-annotated]
    ways = {
        name: Way(
            [["true"]], tmp_path, around=Around(functools.partial(order.append, name)), wall=lambda: float(next(count))
        )
        for name in ("a", "b")
    }
    taken = rounds.in_turn(ways, Turns(2, counters=lambda: {"sent_mib": float(next(count))}))
    assert order == ["a", "b"] * 3
    assert taken["a"]["wall"] == [8.0, 14.0] and taken["b"]["sent_mib"] == [1.0, 1.0]


def test_a_step_is_from_its_first_event_to_its_last() -> None:
    rows = [{"time": time, "step": step} for time, step in ((1.0, "host"), (2.0, "image"), (9.5, "image"), (11.0, ""))]
    assert fanout.step_seconds([*rows, {"time": 20.0}], "image") == 7.5
    with pytest.raises(SystemExit, match="did not come to the step trust"):
        fanout.step_seconds(rows, "trust")


def test_files_that_are_written_are_counted_though_they_are_removed_again(tmp_path: Path) -> None:
    before = counters.written_mib()
    (tmp_path / "file").write_bytes(os.urandom(8 * counters.MIB))
    (tmp_path / "file").unlink()
    assert counters.written_mib() - before >= 7 or "tmpfs" in filesystem(tmp_path)


def filesystem(path: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True)
    return done.stdout


def test_one_after_another_stops_at_the_first_that_fails(tmp_path: Path) -> None:
    ran = fanout.one_after_another([["sh", "-c", "cat > a"], ["false"], ["sh", "-c", "cat > c"]], "echo hello")
    assert subprocess.run(ran, cwd=tmp_path, check=False).returncode != 0
    assert (tmp_path / "a").read_text() == "hello\n" and not (tmp_path / "c").exists()
    subprocess.run(fanout.piped(["sh", "-c", "cat > 'it is'"], "echo 1"), cwd=tmp_path, check=True)
    assert (tmp_path / "it is").read_text() == "1\n"


def test_hosts_of_the_benchmark_are_reached_from_here_only(tmp_path: Path) -> None:
    addresses = loopback.addresses_of(256)
    assert len(set(addresses)) == 256 and all(ipaddress.ip_address(row).is_loopback for row in addresses)
    text = loopback.configuration(loopback.Farm(tmp_path, addresses, 2222), addresses[:16])
    assert re.findall(r"^ListenAddress (.*)$", text, re.M) == list(addresses[:16])
    assert "PasswordAuthentication no" in text and "AllowUsers root@127.0.0.0/8" in text


def test_a_sleeping_host_answers_the_probe_and_runs_all_else(tmp_path: Path) -> None:
    (tmp_path / "answer").write_text("r1probe:{}\n")
    python = tmp_path / "python"
    python.write_text(SLEEPING.format(python=sys.executable, seconds=0, answer=tmp_path / "answer"))
    python.chmod(0o755)

    def said(*argv: str, stdin: str = "") -> str:
        done = subprocess.run([str(python), *argv], input=stdin, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    assert said("-c", "loader", "probe", stdin="2 3\nabcde") == "r1probe:{}\n"
    assert said("-c", "import sys; print(sys.argv[1])", "holder") == "holder\n"
