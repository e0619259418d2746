"""The hostfile parser: everything FlagScale guesses at is either right or refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r1deploy.cluster import hostfile
from r1deploy.cluster.hostfile import HostEntry
from r1deploy.errors import ConfigError, ErrorCode, R1Error, UsageError

A = HostEntry("10.0.0.1", 16, "gpu")
B = HostEntry("10.0.0.2", 16, "gpu")


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        pytest.param("10.0.0.1 slots=16 type=gpu\n10.0.0.2 slots=16 type=gpu\n", [A, B], id="flagscale"),
        pytest.param(
            "10.0.0.2 slots=16 type=gpu\n10.0.0.1 slots=16 type=gpu", [B, A], id="order kept, no last newline"
        ),
        pytest.param("worker-1 slots=8\n", [HostEntry("worker-1", 8)], id="deepspeed"),
        pytest.param("a.b.example slots=2 type=cpu\n", [HostEntry("a.b.example", 2, "cpu")], id="fqdn, cpu"),
        pytest.param("\ufeff10.0.0.1 slots=16 type=gpu\r\n10.0.0.2 slots=16 type=gpu\r\n", [A, B], id="BOM, CRLF"),
        pytest.param("# head\n\n  \t\n10.0.0.1\t slots=16   type=gpu # the head\n", [A], id="comments, blanks, tabs"),
        pytest.param("10.0.0.1 slots=16 type=gpu#x\n", [A], id="comment glued on"),
        pytest.param("localhost slots=1024\n", [HostEntry("localhost", 1024)], id="most slots"),
    ],
)
def test_good(text: str, entries: list[HostEntry]) -> None:
    assert hostfile.parse(text, "hosts") == entries


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("10.0.0.3", "HOSTFILE_SLOTS", "slots is missing"),
        ("10.0.0.3 type=gpu", "HOSTFILE_SLOTS", "not 'type=gpu'"),
        ("10.0.0.3 type=gpu slots=16", "HOSTFILE_SLOTS", "after the address"),
        ("10.0.0.3 slots=", "HOSTFILE_SLOTS", "no value"),
        ("10.0.0.3 slots = 16", "HOSTFILE_SLOTS", "without spaces"),
        ("10.0.0.3 slots= 16", "HOSTFILE_SLOTS", "without spaces"),
        ("10.0.0.3 slots=0 type=gpu", "HOSTFILE_SLOTS", "slots=0"),
        ("10.0.0.3 slots=-1 type=gpu", "HOSTFILE_SLOTS", "not a whole number"),
        ("10.0.0.3 slots=1.5 type=gpu", "HOSTFILE_SLOTS", "not a whole number"),
        ("10.0.0.3 slots=sixteen type=gpu", "HOSTFILE_SLOTS", "not a whole number"),
        ("10.0.0.3 slots=١٦ type=gpu", "HOSTFILE_SLOTS", "not a whole number"),
        ("10.0.0.3 slots=1025 type=gpu", "HOSTFILE_SLOTS", "absurd"),
        (f"10.0.0.3 slots={'9' * 9000}", "HOSTFILE_SLOTS", "not a whole number"),
        ("10.0.0.3 slots=16 type=npu", "HOSTFILE_TYPE", "gpu or cpu"),
        ("10.0.0.3 slots=16 type=", "HOSTFILE_TYPE", "gpu or cpu"),
        ("10.0.0.3 slots=16 type=GPU", "HOSTFILE_TYPE", "gpu or cpu"),
        ("10.0.0.3 slots=16", "HOSTFILE_TYPE", "has no type, line 1 has one"),
        ("10.0.0.3 slots=16 type=gpu rack=7", "HOSTFILE_LINE", "rack=7"),
        ("10.0.0.3 slots=16 max_slots=16", "HOSTFILE_LINE", "max_slots=16"),
        ("10.0.0.3 slots=16 type=gpu 10.0.0.4 slots=16", "HOSTFILE_LINE", "10.0.0.4"),
        ("10.0.0.1 slots=8 type=gpu", "HOSTFILE_DUPLICATE", "line 1"),
        ("[cluster] slots=1", "HOSTFILE_ADDRESS", "ranges"),
        ("node[01:16] slots=16 type=gpu", "HOSTFILE_ADDRESS", "ranges"),
        ("root@10.0.0.3 slots=16 type=gpu", "HOSTFILE_ADDRESS", "ansible_user"),
        ("10.0.0.3:2222 slots=16 type=gpu", "HOSTFILE_ADDRESS", "ansible_port"),
        ("10.0.0.300 slots=16 type=gpu", "HOSTFILE_ADDRESS", "not an IPv4 address"),
        ("10.0.0 slots=16 type=gpu", "HOSTFILE_ADDRESS", "not an IPv4 address"),
        ("10.0.0.03 slots=16 type=gpu", "HOSTFILE_ADDRESS", "not an IPv4 address"),
        ("0.0.0.0 slots=16 type=gpu", "HOSTFILE_ADDRESS", "no host"),
        ("fd00::3 slots=16 type=gpu", "HOSTFILE_ADDRESS", "IPv6"),
        ("-oProxyCommand=x slots=16 type=gpu", "HOSTFILE_ADDRESS", "neither"),
        ("bad!host slots=16 type=gpu", "HOSTFILE_ADDRESS", "neither"),
        ("a..b slots=16 type=gpu", "HOSTFILE_ADDRESS", "neither"),
        (f"{'a' * 64} slots=16 type=gpu", "HOSTFILE_ADDRESS", "neither"),
    ],
)
def test_bad_line(line: str, code: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        hostfile.parse(f"10.0.0.1 slots=16 type=gpu\n# note\n{line}\n", "conf/hosts")
    error = caught.value
    assert error.code == code
    assert error.message.startswith("conf/hosts:3: ")
    assert says in error.message
    assert error.evidence[0].startswith(f"3: {line[:100]}")
    assert error.fix


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("10.0.0.3", "10.0.0.3 slots=16 type=gpu"),
        ("gpu-7 slots=8 type=npu", "gpu-7 slots=8 type=gpu"),
        ("bad!host slots=8", hostfile.SAMPLE),
    ],
)
def test_the_fix_is_a_right_line(line: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        hostfile.parse(line, "hosts")
    assert caught.value.fix == f"a right line: {fix}"
    assert hostfile.parse(fix, "hosts")


def test_all_bad_lines_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        hostfile.parse("a\nb slots=1\nc slots=0\nB slots=1\n", "hosts")
    assert caught.value.code == "HOSTFILE_SLOTS"
    assert [line.strip().split(" ")[0] for line in caught.value.message.splitlines()] == [
        "hosts:",
        "hosts:1:",
        "hosts:3:",
        "hosts:4:",
    ]
    assert len(caught.value.evidence) == 3


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody\n", "\ufeff", "\r\n"])
def test_empty(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        hostfile.parse(text, "hosts")
    assert caught.value.code == "HOSTFILE_EMPTY"
    assert hostfile.SAMPLE in (caught.value.fix or "")


def test_absent_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        hostfile.read(tmp_path / "none")
    assert caught.value.code == "HOSTFILE_MISSING"
    assert str(tmp_path / "none") in caught.value.message


def test_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        hostfile.read(tmp_path)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"10.0.0.1 slots=1\n10.0.0.\xff slots=1\n", 2),
        ("10.0.0.1 slots=1\n".encode("utf-16"), 1),
        (b"10.0.0.1 slots=1\r\n\r\n\0\n", 3),
    ],
)
def test_undecodable(tmp_path: Path, data: bytes, line: int) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        hostfile.read(path)
    assert caught.value.code == "HOSTFILE_ENCODING"
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert all(text.isprintable() for text in caught.value.evidence)


def test_read_with_bom(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"\xef\xbb\xbf10.0.0.1 slots=16 type=gpu\r\n")
    assert hostfile.read(path) == [A]


def test_render_writes_a_type() -> None:
    assert hostfile.render([HostEntry("a", 2), A]) == "a slots=2 type=gpu\n10.0.0.1 slots=16 type=gpu\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1 slots=16 type=gpu\n", True),
        ("\ufeff# c\r\nworker-1 slots=8\r\n", True),
        ("bad!host slots=zero\n", True),
        ("a slots = 16\n", True),
        ("[cluster]\n10.0.0.1 slots=16 type=gpu\n", False),
        ("node1 ansible_host=10.0.0.1 slots=16\n", False),
        ("node1 slots=16 ansible_port=22\n", False),
        ("node1\nnode2\n", False),
        ("all:\n  hosts:\n    node1: {slots: 16}\n", False),
        ("#!/bin/sh\necho slots=1\n", False),
        ("", False),
    ],
)
def test_looks_like_hostfile(tmp_path: Path, text: str, expected: bool) -> None:
    path = tmp_path / "hosts"
    path.write_text(text, encoding="utf-8", newline="")
    assert hostfile.looks_like_hostfile(path) is expected


def test_looks_like_hostfile_of_what_is_no_file(tmp_path: Path) -> None:
    assert not hostfile.looks_like_hostfile(tmp_path)
    assert not hostfile.looks_like_hostfile(tmp_path / "none")


words = st.sampled_from(
    ["10.0.0.1", "node-1", "a.b", "slots=16", "slots=", "slots=0", "type=gpu", "type=", "#", "=", "\r", "\ufeff", "[x]"]
)
lines = st.lists(st.lists(words | st.text(max_size=8), max_size=5).map(" ".join), max_size=6).map("\n".join)


@given(st.text() | lines)
@example("10.0.0.1 slots=\u00b2")
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        entries = hostfile.parse(text, "hosts")
    except R1Error as error:
        assert error.code in ErrorCode
        assert error.message.startswith("hosts:")
        assert error.fix
    else:
        assert entries
        again = hostfile.parse(hostfile.render(entries), "again")
        assert [(entry.address, entry.slots) for entry in again] == [(entry.address, entry.slots) for entry in entries]


@given(st.binary())
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-hostfile"
    path.write_bytes(data)
    assert hostfile.looks_like_hostfile(path) in (True, False)
    try:
        assert hostfile.read(path)
    except R1Error as error:
        assert error.code in ErrorCode


names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{1,4})?", fullmatch=True)
addresses = names | st.ip_addresses(v=4, network="10.0.0.0/8").map(str)
kinds = st.sampled_from(hostfile.TYPES)


@given(
    st.lists(
        st.builds(HostEntry, addresses, st.integers(1, hostfile.MAX_SLOTS), kinds),
        min_size=1,
        unique_by=lambda entry: entry.address,
    )
)
def test_round_trip(entries: list[HostEntry]) -> None:
    assert hostfile.parse(hostfile.render(entries), "hosts") == entries
