"""Whatever comes in from outside is understood whole or refused by name: no other exception, no nonsense taken.

``FUZZ_EXAMPLES=200000 pytest tests/unit/test_fuzz*.py`` is a long session; the default takes some seconds.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import runpy
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from r1deploy import content
from r1deploy.cluster import hostfile, inventories
from r1deploy.cluster.hostfile import HostEntry
from r1deploy.errors import ErrorCode, R1Error
from r1deploy.onhost import chips
from r1deploy.planning.observed import Chips
from r1deploy.settings.load import from_profile
from tests.fuzzing import EXAMPLES, edits, ours, quick

BASE = from_profile("iluvatar-bi-v150")

# The forced command

OURS = "flagrelease_bi"
HEAD = f"docker exec {OURS} /bin/bash -c "
parse_request = runpy.run_path(str(content.HELPERS / "r1trust.py"))["parse"]
METACHARACTERS = set(";&|<>()$`\\\"'*?[]#~=%!{}\n\r\t\0")
REQUESTS = edits(
    st.sampled_from(["'", '"']).flatmap(
        lambda quote: st.text(max_size=12).map(lambda text: f"{HEAD}{quote}{text.replace(quote, '')}{quote}")
    ),
    [" ", "'", '"', ";", "&&", "$(id)", "`id`", "\\", "\n", "\r", "\0", "\x0c", "\x1c", "\x85", "\xa0", "\u2003", "-it",
     "#", "> f", OURS, "docker", "/bin/bash", "-c", "''", "$'a'"],
)  # fmt: skip


@quick(250)
@given(REQUESTS | st.text())
def test_forced_command_is_the_one_shape_or_refused(request_: str) -> None:
    words = parse_request(request_, OURS)
    if words is None:
        return
    assert words[:5] == ["docker", "exec", OURS, "/bin/bash", "-c"] and len(words) == 6
    assert request_.startswith(HEAD)
    rest = request_.removeprefix(HEAD).strip(" ")
    quote = rest[0]
    assert quote in "'\"" and rest[-1] == quote and len(rest) >= 2
    inside, outside = rest[1:-1], request_.replace(rest, "", 1)
    assert quote not in inside
    assert not METACHARACTERS & set(outside), outside
    assert "\n" not in request_ and "\0" not in request_
    # What a shell would have made of it, word by word: in single quotes nothing is special.
    assert words[5] == (inside if quote == "'" else inside.replace("\\\\", "\\")), "something was added to the command"


@quick(15)
@given(st.text(st.characters(exclude_characters="'\n\0", exclude_categories=["Cs"]), max_size=30))
def test_forced_command_is_what_bash_makes_of_it(text: str) -> None:
    request_ = f"{HEAD}'{text}'"
    if EXAMPLES and hash(text) % 100:  # bash is slow: one in a hundred in a long session
        return
    done = subprocess.run(
        ["/bin/bash", "-c", f"printf '%s\\0' {request_}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout.decode().split("\0")[:-1] == parse_request(request_, OURS)


# The hostfile

ADDRESSES = st.sampled_from(
    ["10.0.0.1", "10.0.0.2", "node-1", "gpu.example", "0x7f.1", "1.2.3", "0177.0.0.1", "0x0a000001"]
)
HOSTFILES = edits(
    st.lists(
        st.builds(
            "{} slots={}{}".format,
            ADDRESSES,
            st.sampled_from(["1", "16", "008", "1024"]),
            st.sampled_from(["", " type=gpu", " type=cpu"]),
        ),
        min_size=1,
        max_size=4,
    ).map("\n".join),
    ["#", " ", "\t", "\r\n", "\r", "\ufeff", "=", "slots=", "type=", "16", "0", "٣", "²", "\x0b", "\xa0", "\u2028",
     "\0", "[a]", ":22", "root@", "-", "."],
)  # fmt: skip


def sane_address(address: str) -> None:
    """A resolver takes it for the host that people read in it."""
    assert re.fullmatch(r"[A-Za-z0-9.-]+", address), ascii(address)
    assert not address.startswith("-"), "a program would take it for an option"
    try:
        socket.inet_aton(address)
    except OSError:
        return
    with contextlib.suppress(ipaddress.AddressValueError):
        if str(ipaddress.IPv4Address(address)) == address:
            return
    raise AssertionError(f"{address} is another address to a resolver")


@quick(250)
@given(HOSTFILES | st.text())
def test_hostfile_is_understood_whole_or_refused(text: str) -> None:
    try:
        entries = hostfile.parse(text, "hosts")
    except R1Error as error:
        ours(error)
        return
    assert len({entry.address.lower() for entry in entries}) == len(entries) > 0
    assert len({entry.type is None for entry in entries}) == 1
    for entry in entries:
        sane_address(entry.address)
        assert 1 <= entry.slots <= hostfile.MAX_SLOTS and entry.type in (None, *hostfile.TYPES)
    # Every line is a host, a comment or empty: nothing was skipped.
    kept = [line for line in re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")) if line.partition("#")[0].strip()]
    assert len(kept) == len(entries)
    again = hostfile.parse(hostfile.render(entries), "again")
    assert [(row.address, row.slots) for row in again] == [(row.address, row.slots) for row in entries]


# The inventory

NAMES = st.sampled_from(
    ["node1", "node2", "a", "1e5", "0x10", "True", "all", "cluster", "ungrouped", "localhost", "a.b", "node-1"]
)
WORDS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.lists(st.integers(), max_size=2)
)
HOSTVARS = st.fixed_dictionaries(
    {},
    optional={
        "ansible_host": ADDRESSES | WORDS,
        "r1_address": ADDRESSES | WORDS,
        "ansible_port": st.sampled_from([22, "22", "0", 65536, "٢٢", True, 22.0]) | WORDS,
        "ansible_user": st.sampled_from(["root", "", "a b", "-oProxyCommand=id"]) | WORDS,
        "slots": st.sampled_from([16, "16", " 16 ", "0", True, 1.0, "1e2", "٣"]) | WORDS,
        "type": st.sampled_from(["gpu", "cpu", "GPU", ""]) | WORDS,
    },
)


@quick(200)
@given(st.dictionaries(NAMES | st.text(min_size=1, max_size=5), HOSTVARS, max_size=4), st.integers(1, 16))
def test_hostvars_are_hosts_or_refused(found: dict[str, dict[str, object]], slots: int) -> None:
    try:
        hosts = inventories.hosts_from_hostvars(list(found), found, slots)
    except R1Error as error:
        assert error.code in ErrorCode and error.fix and error.message.encode("utf-8", "replace")
        return
    assert [host.name for host in hosts] == list(found)
    assert [host.is_head for host in hosts] == [True] + [False] * (len(hosts) - 1)
    assert len({host.address.lower() for host in hosts}) == len(hosts)
    for host in hosts:
        sane_address(host.address)
        assert 1 <= host.slots <= hostfile.MAX_SLOTS and host.type in hostfile.TYPES
        assert host.port is None or 1 <= host.port <= 65535
        assert host.user is None or re.fullmatch(r"[^\s-]\S*", host.user), "ssh would read another user, or an option"
        given_slots = found[host.name].get("slots", slots)
        assert not isinstance(given_slots, bool | float) and str(host.slots) == str(int(str(given_slots)))


HOST_NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?(\.[A-Za-z0-9]{1,4})?", fullmatch=True)


@quick(40)
@given(
    st.lists(NAMES | HOST_NAMES | ADDRESSES, min_size=1, max_size=4, unique_by=str.lower),
    st.sampled_from([None, "gpu", "cpu"]),
)
def test_inventory_of_a_hostfile_is_read_by_ansible_as_the_same_hosts(
    tmp_path: Path, addresses: list[str], kind: str | None
) -> None:
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

    assume(all(hostfile.address_problem(address) is None for address in addresses))
    entries = [HostEntry(address, 16, kind) for address in addresses]
    path = tmp_path / "inventory.ini"
    path.write_text(inventories.render(entries), encoding="utf-8")
    read = InventoryManager(loader=DataLoader(), sources=[str(path)]).groups[inventories.GROUP].get_hosts()
    hostvars = {host.name: dict(host.get_vars()) for host in read}
    hosts = inventories.hosts_from_hostvars([host.name for host in read], hostvars, 1)
    assert [(row.address, row.slots) for row in hosts] == [(row.address, row.slots) for row in entries]
    assert hostfile.parse(inventories.to_hostfile(hosts), "again")


# What the smi tool prints


def look_chips(rows: str, names: str, table: str, code: int = 0) -> Chips:
    """What look_chips makes of a tool that prints these texts."""

    def output_of(argv: list[str], *_: object) -> tuple[int, str, str]:
        said = {1: table, 2: names}.get(len(argv), rows)
        return code if said is rows else 0, said, ""

    request = {"chip": {**BASE.chip.model_dump(), "smi": ["/bin/true"], "devices": "/nowhere/*", "smi_list": ["-L"]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chips, "output_of", output_of)
        found = Chips.model_validate(chips.look_chips(request))
    json.dumps(found.model_dump())
    return found


PREFIX = BASE.chip.name_prefixes[0]
ROWS = st.lists(
    st.tuples(st.integers(0, 15), st.integers(0, 40000)).map(
        lambda pair: f"{pair[0]}, {PREFIX}, 32768 MiB, {pair[1]} MiB"
    ),
    max_size=4,
).map("\n".join)
SMI_PIECES = [",", " ", "\n", "\r\n", "MiB", "GiB", "-", "0", "99999999999", "9" * 5000,
              "[N/A]", "GPU-?????", "٣", "²", ".5", "e3", "\x1b[0m", "\0"]  # fmt: skip
SICK = edits(ROWS.map(lambda _: f"GPU 0: {PREFIX} (UUID: GPU-?????)\nGPU 1: {PREFIX} (UUID: GPU-1)"), SMI_PIECES)


@quick(200)
@given(
    edits(ROWS, SMI_PIECES),
    SICK,
    st.text(max_size=20) | st.just("Driver Version: 4.1.0  CUDA Version: 10.2"),
    st.sampled_from([0, 0, 0, 1]),
)
def test_smi_every_row_is_a_chip_and_none_is_healthy_by_mistake(rows: str, names: str, table: str, code: int) -> None:
    found = look_chips(rows, names, table, code)
    if code:
        assert found.error and not found.chips
        return
    lines = [line for line in rows.split("\n") if line.strip()]
    assert len(found.chips) == len(lines), "a row that is no chip counts as a sick one"
    for line, chip in zip(lines, found.chips, strict=True):
        if chip.name.startswith(PREFIX):
            fields = [field.strip() for field in line.split(",")]
            assert len(fields) == 4 and fields[1].startswith(PREFIX), line
            assert fields[0] == str(chip.index) or fields[0].lstrip("0") == str(chip.index).lstrip("0"), line
            for field, number in ((fields[2], chip.memory_mib), (fields[3], chip.used_mib)):
                assert re.fullmatch(rf"0*{number}( MiB)?", field) or (
                    number == 0 and re.fullmatch("0+( MiB)?", field)
                ), line
    healthy = [chip.index for chip in found.chips if chip.name.startswith(PREFIX)]
    assert len(healthy) == len(set(healthy)), "the same chip twice is not two healthy ones"


@quick(40)
@given(st.lists(st.tuples(st.integers(0, 32768), st.booleans()), max_size=16))
def test_smi_round_trip(chips: list[tuple[int, bool]]) -> None:
    rows = "\n".join(f"{index}, {PREFIX}, 32768 MiB, {used} MiB" for index, (used, _) in enumerate(chips))
    names = "\n".join(
        f"GPU {index}: {PREFIX} (UUID: GPU-{'?????' if sick else index})" for index, (_, sick) in enumerate(chips)
    )
    found = look_chips(rows, names, "Driver Version: 4.1.0  CUDA Version: 10.2")
    assert [(row.index, row.used_mib, not row.name.startswith(PREFIX)) for row in found.chips] == [
        (index, used, sick) for index, (used, sick) in enumerate(chips)
    ]
    assert found.driver == "4.1.0"


@quick(150)
@given(st.binary(max_size=60), st.sampled_from(["\n", "\r", " "]))
def test_hostfile_bytes(tmp_path: Path, data: bytes, end: str) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"10.0.0.1 slots=16" + end.encode() + data)
    try:
        assert hostfile.read(path)
    except R1Error as error:
        ours(error)


@pytest.mark.parametrize("request_", [f"{HEAD}'id'\x0c", f"{HEAD}'id';reboot", f"{HEAD}'i'd", "id"])
def test_the_property_of_the_forced_command_can_fail(monkeypatch: pytest.MonkeyPatch, request_: str) -> None:
    """A parser that takes everything is caught."""
    monkeypatch.setitem(globals(), "parse_request", lambda text, _: [*HEAD.split(), text.removeprefix(HEAD).strip("'")])
    with pytest.raises(AssertionError):
        test_forced_command_is_the_one_shape_or_refused.hypothesis.inner_test(request_)  # type: ignore[attr-defined]


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2003", "\r"])
def test_forced_command_with_white_space_that_is_no_blank(space: str) -> None:
    """Python's strip() took it for a blank; to a shell it is a part of the word."""
    for request_ in (f"{HEAD}'id'{space}", f"{HEAD}{space}'id'"):
        assert parse_request(request_, OURS) is None


@pytest.mark.parametrize("row", [f"{PREFIX}, 32768 MiB, 0 MiB", PREFIX, f"0, {PREFIX}, 32768 MiB, 64 MiB"])
def test_smi_a_row_without_an_index_or_seen_already_is_no_healthy_chip(row: str) -> None:
    found = look_chips(f"0, {PREFIX}, 32768 MiB, 64 MiB\n{row}", "", "")
    assert [chip.name.startswith(PREFIX) for chip in found.chips] == [True, False]
