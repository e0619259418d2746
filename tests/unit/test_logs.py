"""Logs of many hosts: equal lines once, each order kept, the odd one in sight, a host that fails ends no other."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from r1deploy.ansible.failures import Failure
from r1deploy.cluster.merging import merged, timeless
from r1deploy.errors import ApplyError, UnreachableError, UsageError
from r1deploy.observe.blocking import hosts_of, named_hosts
from r1deploy.ui.loglines import LogLines
from r1deploy.verbs import logs, shell
from tests.manyhosts import names


def test_what_all_say_is_said_once_and_the_odd_line_stands_where_it_was_said() -> None:
    lines = {name: ["begin", f"install on {name}", "end"] for name in names(4)}
    lines["node03"] = ["begin", "warning: slow disk", "install on node03", "end"]
    assert list(merged(lines)) == [
        (tuple(names(4)), "begin"),
        (("node03",), "warning: slow disk"),
        (tuple(names(4)), "install on node01"),
        (tuple(names(4)), "end"),
    ]


def test_times_and_process_ids_are_no_difference_but_figures_are() -> None:
    one = ["INFO 11-28 07:44:03 up (pid=71)", "2026-11-28T07:44:03.125Z x", "version 0.8.1", "shard 3/16"]
    two = ["INFO 11-28 07:45:59 up (pid=99)", "2026-11-28T07:44:04,001Z x", "version 0.8.2", "shard 4/16"]
    assert [timeless("a", row) for row in one[:2]] == [timeless("b", row) for row in two[:2]]
    assert [len(hosts) for hosts, _ in merged({"a": one, "b": two})] == [2, 2, 1, 1, 1, 1]


def said_by(rows: Iterable[tuple[tuple[str, ...], str]], host: str) -> list[str]:
    return [line for hosts, line in rows if host in hosts]


def test_whatever_is_said_nothing_is_lost_and_each_order_stays() -> None:
    dice = random.Random(64)
    for _ in range(300):
        lines = {name: [dice.choice("abcdef") for _ in range(dice.randrange(12))] for name in names(5)}
        rows = list(merged(lines))
        assert {name: said_by(rows, name) for name in lines} == lines


def test_lines_in_another_order_and_lines_of_one_host_end() -> None:
    assert list(merged({"a": ["1", "2"], "b": ["2", "1"]})) == [(("a",), "1"), (("a", "b"), "2"), (("b",), "1")]
    assert list(merged({"a": [], "b": ["x", "x"], "c": ["x"]})) == [(("b", "c"), "x"), (("b",), "x")]
    assert list(merged({})) == []
    own = {name: [f"line {at} of its own {name}x" for at in range(3)] for name in names(3)}
    assert [hosts[0] for hosts, _ in merged(own)] == [name for name in names(3) for _ in range(3)]


# On a terminal, and not.


def shown(rows: Iterable[tuple[tuple[str, ...], str]], hosts: Sequence[str]) -> LogLines:
    lines = LogLines()
    show = lines.begin(hosts)
    for mine, line in rows:
        show(mine, line)
    return lines


def test_names_stand_in_a_column_and_a_summary_last(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = names(64)
    rows = [(tuple(hosts), "Collecting x"), (("node07",), "Retrying\x1b[2J"), (tuple(hosts[::2]), "done")]
    lines = shown(rows, hosts)
    assert capsys.readouterr().out.splitlines() == [
        "node[01-64] | Collecting x",
        "node07      | Retrying\\x1b[2J",
        "node01 and 31 more | done",
    ]
    assert lines.summary() == ["1 line on all 64 hosts; node07: 1 line of its own"]
    silent = shown([(("node07",), "x")], hosts).summary()[0]
    assert silent.endswith("node[01-06,08-64]: no lines")


def test_of_two_hosts_each_line_has_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown([(("a",), "\x1b[31mred\x1b[0m"), (("node2",), "x")], ["a", "node2"])
    assert capsys.readouterr().out == "a     | red\nnode2 | x\n" and lines.summary() == []


@pytest.mark.parametrize(
    ("term", "no_colour", "drawn"), [("xterm", "", True), ("dumb", "", False), ("xterm", "1", False)]
)
def test_on_a_terminal_a_host_has_a_colour_and_many_have_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], term: str, no_colour: str, drawn: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_colour)
    shown([(tuple(names(3)), "all"), (("node02",), "own")], names(3))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "node[01-03] | all"
    assert second == ("\x1b[33mnode02      | \x1b[0mown" if drawn else "node02      | own")


# The verb.


class Host:
    """A connection that says lines, and may fail then; with ``until`` it goes on until that is set."""

    def __init__(self, name: str, said: str, error: Exception | None, until: threading.Event | None) -> None:
        self.name, self._said, self._error, self._until, self.closed = name, said, error, until, False

    def script(self, module: str, order: Any, take: Any) -> tuple[int, str]:
        assert module == "follow" and order["pattern"] == "engines"
        take(self._said.encode())
        if self._until:
            assert self._until.wait(30)
        if self._error:
            raise self._error
        return (0, "") if self._said else (3, "no python")

    def no_answer(self, what: str, code: int, said: str) -> ApplyError:
        return ApplyError("STEP_FAILED", f"{self.name}: {what} ended with code {code}: {said}")

    def close(self) -> None:
        self.closed = True


class Cluster:
    """A run on such hosts; ``said``: what the run says on standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hosts: dict[str, Any], silent: Sequence[str] = ()) -> None:
        self.said: list[str] = []
        self.rows: list[tuple[tuple[str, ...], str]] = []
        self.until = threading.Event()
        self.heard = threading.Event()
        failures = {name: Failure(name, "", "", "SSH_DOWN", f"{name} refuses", (), "start sshd") for name in silent}
        every = [SimpleNamespace(name=name) for name in [*hosts, *silent]]
        self.view: Any = SimpleNamespace(
            desired=SimpleNamespace(hosts=every, head=every[0]), probed=SimpleNamespace(failures=failures)
        )
        self.run: Any = SimpleNamespace(
            context=None,
            layout=SimpleNamespace(logs_of_engines="engines"),
            say=lambda text: (self.said.append(text), self.heard.set()),
            remote=lambda _, name: Host(name, *hosts[name]),
        )
        monkeypatch.setattr(logs, "look", lambda *_: self.view)
        monkeypatch.setattr(logs, "lock_of_any", lambda *_: None)

    def logs(self, **wanted: Any) -> None:
        logs.logs(self.run, logs.Wanted(**wanted), lambda _: lambda hosts, line: self.rows.append((hosts, line)))


def test_many_hosts_are_merged_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, {name: (f"a\n{name}\nlast", None, None) for name in names(64)})
    cluster.logs()
    assert cluster.rows == [(tuple(names(64)), "a"), (tuple(names(64)), "node01"), (tuple(names(64)), "last")]


def test_a_host_that_fails_is_named_and_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    away = UnreachableError("SSH_TIMEOUT", "node02: the connection ended", host="node02")
    hosts = {"node01": ("a\n", None, None), "node02": ("a\nb", away, None), "node03": ("", None, None)}
    cluster = Cluster(monkeypatch, hosts, silent=["node04"])
    with pytest.raises(UnreachableError) as caught:
        cluster.logs()
    assert cluster.rows == [(("node01", "node02"), "a")]
    assert caught.value.message == "node02: the connection ended"
    assert "node03: logs ended with code 3" in caught.value.evidence[0]
    assert "node04 refuses (SSH_DOWN); the logs of the other 3 are above" in caught.value.evidence[1]
    assert cluster.said == [], "it is said once, at the end"


def test_followed_lines_come_together_while_hosts_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, {}, silent=["node04"])
    away = UnreachableError("SSH_TIMEOUT", "node03: the connection ended")
    lines: dict[str, Any] = dict.fromkeys(names(2), ("a\n", None, cluster.until)) | {"node03": ("a\n", away, None)}
    monkeypatch.setattr(logs, "HOLD_SECONDS", 0.02)
    follow = Cluster(monkeypatch, lines, silent=["node04"])
    shown = threading.Event()

    def take(hosts: tuple[str, ...], line: str) -> None:
        follow.rows.append((hosts, line))
        shown.set()

    caught: list[BaseException] = []

    def work() -> None:
        try:
            logs.logs(follow.run, logs.Wanted(follow=True), lambda _: take)
        except UnreachableError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert shown.wait(30) and thread.is_alive(), "shown although two hosts go on"
    cluster.until.set()
    thread.join(30)
    assert said_by(follow.rows, "node01") == said_by(follow.rows, "node03") == ["a"]
    assert follow.said == ["node04: node04 refuses (SSH_DOWN)", "node03: the connection ended (SSH_TIMEOUT)"]
    assert len(caught) == 1


def test_of_two_hosts_nothing_waits() -> None:
    rows: list[tuple[tuple[str, ...], str]] = []
    gathered = logs.Gathered(["a", "b"], lambda hosts, line: rows.append((hosts, line)), None)
    gathered.take("a", "x")
    assert rows == [(("a",), "x")]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_HELD", 100)
    rows: list[tuple[tuple[str, ...], str]] = []
    gathered = logs.Gathered(names(3), lambda hosts, line: rows.append((hosts, line)), None)
    for _ in range(20):
        gathered.take("node01", "0123456789")
    assert len(rows) >= 10
    gathered.flush()
    assert len(rows) == 20


def test_a_reader_that_went_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, dict.fromkeys(names(3), ("a\n", None, None)))

    def gone(hosts: tuple[str, ...], line: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        logs.logs(cluster.run, logs.Wanted(), lambda _: gone)


# Which hosts.


def test_hosts_are_named_as_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, dict.fromkeys(names(12), ("", None, None)), silent=["node13"])
    found = [host.name for host in named_hosts(cluster.view, "node[09-11],node02, node09")]
    assert found == ["node02", "node09", "node10", "node11"], "in the inventory's order, each once"
    assert len(named_hosts(cluster.view, None)) == 13
    with pytest.raises(UsageError, match=r"--host node\[12-15\]: no such host node14, node15") as caught:
        named_hosts(cluster.view, "node[12-15]")
    assert caught.value.fix == "hosts are: node[01-13]"
    for wrong in ("", "[", "node[1-", "node[02-01]", "x"):
        with pytest.raises(UsageError, match="no such host"):
            named_hosts(cluster.view, wrong)
    with pytest.raises(UnreachableError, match="nothing was begun"):
        hosts_of(cluster.view, "node[12-13]")
    with pytest.raises(UnreachableError, match="node13 refuses"):
        cluster.logs(host="node13")


def test_a_shell_is_on_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, dict.fromkeys(names(3), ("", None, None)))
    monkeypatch.setattr(shell, "look", lambda *_: cluster.view)
    monkeypatch.setattr(shell, "lock_of_any", lambda *_: None)
    with pytest.raises(UsageError, match="a shell is on one host"):
        shell.shell(cluster.run, "node[01-02]")
