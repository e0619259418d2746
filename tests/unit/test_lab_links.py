"""Limits of the lab's links: how a rate is written, the commands that are made, and that each end gets one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from r1deploy.lab import LabError, links, places
from r1deploy.lab.links import Limits, Rate

TBF = "tc qdisc replace dev {} root tbf rate 50mbit burst 64kb latency 50ms"


@pytest.mark.parametrize(
    ("text", "bits", "shown"),
    [
        ("50mbit", 50_000_000, "50mbit"),
        ("800Kbit", 800_000, "800kbit"),
        ("1000mbit", 10**9, "1gbit"),
        ("1500mbit", 1_500_000_000, "1500mbit"),
        ("9600bit", 9600, "9600bit"),
    ],
)
def test_a_rate_is_read_as_tc_writes_it(text: str, bits: int, shown: str) -> None:
    assert links.rate_of(text) == Rate(bits) and str(Rate(bits)) == shown


@pytest.mark.parametrize("text", ["", "50", "0mbit", "fast", "50mbps", "50 mbit", "50mbit; reboot", "-1mbit", "1e9bit"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="is no rate"):
        links.rate_of(text)


def test_one_host_may_have_a_limit_of_its_own() -> None:
    limits = links.parse(["50mbit", "node2=10mbit"])
    assert limits == Limits(Rate(50_000_000), {"node2": Rate(10_000_000)})
    assert (str(limits.of("node1")), str(limits.of("node2"))) == ("50mbit", "10mbit")
    assert links.parse(limits.words()) == limits
    assert links.parse(["node2=10mbit"]).of("node1") is None and links.parse([]) == Limits()


def test_each_end_is_limited_by_its_own_command() -> None:
    rate = Rate(50_000_000)
    assert TBF.format("eth0") in links.inside(rate) and "/sys/class/net/eth0/iflink" in links.inside(rate)
    script = links.outside("br-1", rate, {7: rate, 9: None})
    assert TBF.format("br-1") in script and script.count(TBF.format('"$device"')) == 1
    assert script.index("grep -lx 7 ") < script.index(TBF.format('"$device"')) < script.index("grep -lx 9 ")
    assert "tbf rate" not in links.inside(None) + links.outside("br-1", None, {7: None})


@pytest.mark.parametrize("rate", [Rate(800_000), None])
def test_the_scripts_are_a_shell_s(rate: Rate | None) -> None:
    for script in (links.inside(rate), links.outside("br-1", rate, {7: rate})):
        subprocess.run([shutil.which("sh") or "sh", "-n", "-c", script], check=True, timeout=20)


def test_a_limit_is_read_from_what_tc_shows() -> None:
    shown = '[{"kind":"tbf","root":true,"options":{"rate":6250000,"burst":65531,"lat":50000}}]'
    assert links.rate_in(shown) == Rate(50_000_000)
    assert links.rate_in('[{"kind":"noqueue","root":true,"options":{}}]') is None
    assert links.rate_in("[]") is None


# A worker of a parallel run has a lab of another name.
NODE1 = f"{places.PREFIX}-node1"


class Engine:
    """A Docker client with two hosts of the lab; it keeps what it is asked to run."""

    def __init__(self, code: int = 0) -> None:
        self.code, self.scripts, self.here = code, [], []  # type: tuple[int, list[Any], list[Any]]
        self.containers = self.networks = self.api = self

    def list(self, **asked: Any) -> list[Any]:
        if "names" in asked:
            return [type("Network", (), {"id": "abcdef0123456789", "attrs": {"Options": None}})]
        image = {"Config": {"Image": "r1lab-host:1"}}
        return [type("Host", (), {"name": f"{places.PREFIX}-node{n}", "attrs": image}) for n in (1, 2)]

    def exec_create(self, container: str, argv: list[str], **_: Any) -> dict[str, str]:
        self.scripts.append((container, argv[-1]))
        return {"Id": container}

    def exec_start(self, made: str) -> bytes:
        return b"4%d\n" % int(made[-1])

    def exec_inspect(self, _: str) -> dict[str, int]:
        return {"ExitCode": self.code}

    def run(self, image: str, argv: list[str], **how: Any) -> None:
        self.here.append((image, argv[-1], how["network_mode"]))


def test_hosts_and_this_machine_get_a_limit_which_is_lifted_again(tmp_path: Path) -> None:
    engine, record = Engine(), tmp_path / "link"
    links.limit(engine, record, links.parse(["50mbit"]))
    assert record.read_text() == "50mbit\n"
    assert [name for name, _ in engine.scripts] == [NODE1, f"{places.PREFIX}-node2"]
    image, script, network = engine.here.pop()
    assert (image, network) == ("r1lab-host:1", "host") and TBF.format("br-abcdef012345") in script
    assert "grep -lx 41 " in script and "grep -lx 42 " in script
    links.again(engine, record)
    assert engine.here.pop()[1] == script
    links.lift(engine, record)
    assert "tc qdisc del dev br-abcdef012345 root" in engine.here.pop()[1] and not record.exists()
    links.lift(engine, record)
    links.again(engine, record)
    assert not engine.here, "without a limit nothing is done"


def test_a_host_that_cannot_be_limited_is_said(tmp_path: Path) -> None:
    record = tmp_path / "link"
    with pytest.raises(LabError, match=f"{NODE1}: its link"):
        links.limit(Engine(code=2), record, links.parse(["1kbit"]))
    assert record.is_file(), "the next `up` takes away what was set"


def test_a_limit_of_one_host_leaves_the_others_and_this_machine(tmp_path: Path) -> None:
    engine, record = Engine(), tmp_path / "link"
    links.limit(engine, record, links.parse(["node2=50mbit"]))
    assert [TBF.format("eth0") in script for _, script in engine.scripts] == [False, True]
    assert engine.here[0][1].count("tbf rate") == 1
    with pytest.raises(LabError, match="no host node3"):
        links.limit(engine, record, links.parse(["node3=50mbit"]))
    assert record.read_text() == "node2=50mbit\n"


def test_an_answer_that_the_engine_loses_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(0, ""), (0, "[]"), (0, ""), (0, ""), (0, "")])
    monkeypatch.setattr(links.hosts, "execute", lambda *_: next(answers))
    assert links.shown(None, NODE1) is None
    with pytest.raises(LabError, match="run it again"):
        links.shown(None, NODE1)
