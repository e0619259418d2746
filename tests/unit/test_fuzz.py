"""Whatever comes in from outside is understood whole or refused by name: no other exception, no nonsense taken.

``FUZZ_EXAMPLES=200000 pytest tests/unit/test_fuzz.py`` is a long session; the default takes some seconds.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import os
import re
import runpy
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from r1deploy import content
from r1deploy.cluster import hostfile, inventory
from r1deploy.cluster.host import Host
from r1deploy.cluster.hostfile import HostEntry
from r1deploy.errors import ConfigError, ErrorCode, R1Error
from r1deploy.onhost import chips
from r1deploy.planning.observed import Chips
from r1deploy.planning.release import Inputs, release_of
from r1deploy.render import Material, render
from r1deploy.settings import lockfile, profiles, schema, yamlfile
from r1deploy.settings.load import Loaded, from_profile, leaves, load, value_from_text

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def quick(examples: int) -> Any:
    """So many examples in the everyday run, FUZZ_EXAMPLES of them in a long one."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
    return fuzz(max_examples=EXAMPLES or examples, deadline=None, suppress_health_check=checks)


def edits(valid: st.SearchStrategy[str], pieces: list[str]) -> st.SearchStrategy[str]:
    """A right text with a few things put in, taken out or replaced: nearer to the rules' edges than any random text."""

    @st.composite
    def edited(draw: st.DrawFn) -> str:
        text = draw(valid)
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(text)))
            end = min(len(text), start + draw(st.sampled_from([0, 0, 0, 1, 2, 8])))
            text = text[:start] + draw(st.sampled_from(pieces) | st.characters()) + text[end:]
        return text

    return edited()


def ours(error: R1Error) -> None:
    """The error can be shown: a registered code, text that any terminal takes, no control characters."""
    assert error.code in ErrorCode
    lines = "\n".join([error.message, *error.evidence, error.fix or ""])
    assert lines.encode("utf-8")
    assert not [char for char in lines if char != "\n" and not char.isprintable()], ascii(lines)


@pytest.fixture(autouse=True, scope="module")
def profile_is_read_once() -> Iterator[None]:
    """The profile is no input here, and to read it takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "read", functools.cache(profiles.read))
        yield


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
        hosts = inventory.hosts_from_hostvars(list(found), found, slots)
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
    path.write_text(inventory.render(entries), encoding="utf-8")
    read = InventoryManager(loader=DataLoader(), sources=[str(path)]).groups[inventory.GROUP].get_hosts()
    hostvars = {host.name: dict(host.get_vars()) for host in read}
    hosts = inventory.hosts_from_hostvars([host.name for host in read], hostvars, 1)
    assert [(row.address, row.slots) for row in hosts] == [(row.address, row.slots) for row in entries]
    assert hostfile.parse(inventory.to_hostfile(hosts), "again")


# The settings

PROFILE = "iluvatar-bi-v150"
BASE = from_profile(PROFILE)
LEAVES = [path for path, node in schema.nodes().items() if node.kind == "leaf" and path != ("profile",)]
MAPPINGS = [path for path, node in schema.nodes().items() if node.kind == "mapping"]
# Texts that people read or that a shell of the container runs may have more than one line.
LONG = {
    ("service", "prompt"),
    ("vllm", "build"),
    ("vllm", "install"),
    ("env",),
    ("git", "instead_of"),
    ("chip", "smi_env"),
    ("weights", "env"),
}
KNOWN = dict(leaves(BASE))
TEXTS = st.text(max_size=10) | st.sampled_from(
    ["", " ", "a b", "a\nb", "a\0b", "-x", "--upload-pack=id", "true", "null", "1", "0x1", "1_000", "12:30", "/",
     "/a/../b", "auto", "é", "\x1b[31m", "\u2028", "~", "yes", "$(id)", "'", '"', "{", "[", "(", "(?P<a", "a: b", "- a"]
)  # fmt: skip
ATOMS = st.none() | st.booleans() | st.integers(-10, 10**6) | st.integers() | st.floats() | TEXTS
VALUES = ATOMS | st.lists(ATOMS, max_size=3)
KEYS = st.sampled_from(["A", "NCCL_DEBUG", "VLLM_API_KEY", "enforce_eager", "a.b", "https://x/"]) | TEXTS


@st.composite
def changes(draw: st.DrawFn) -> dict[tuple[str, ...], object]:
    """Some settings with values of any kind, many near to the right ones."""
    found: dict[tuple[str, ...], object] = {}
    for _ in range(draw(st.integers(1, 3))):
        path = draw(
            st.sampled_from(LEAVES) | st.tuples(st.sampled_from(MAPPINGS), KEYS).map(lambda pair: (*pair[0], pair[1]))
        )
        known = KNOWN.get(path)
        near = edits(st.just(known), ["", "\n", " ", "-", "/", "\0"]) if isinstance(known, str) else st.just(known)
        found[path] = draw(VALUES | near)
    return found


def nested(values: dict[tuple[str, ...], object]) -> dict[str, Any]:
    """Values by path as the mapping that YAML gives."""
    data: dict[str, Any] = {}
    for path, value in values.items():
        inner = data
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return data


def take(
    folder: Path, values: dict[tuple[str, ...], object] | None, flags: dict[str, object], **environ: str
) -> Loaded | None:
    """The settings, or None where they are refused in our own way."""
    path = folder / "r1deploy.yaml"
    path.unlink(missing_ok=True)
    if values is not None:
        path.write_bytes(yaml.safe_dump(nested(values), allow_unicode=True).encode("utf-8", "surrogatepass"))
    try:
        return load(folder, flags, environ)
    except R1Error as error:
        ours(error)
        return None


def one_line_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from one_line_texts(item)


HOSTS = (Host("node1", "10.0.0.1", 16, is_head=True), Host("node2", "10.0.0.2", 16))


@quick(100)
@given(changes())
def test_settings_that_are_taken_make_sense(tmp_path: Path, values: dict[tuple[str, ...], object]) -> None:
    found = take(tmp_path, values, {})
    if found is None:
        return
    for path, value in leaves(found.settings):
        if path in LONG or path[:-1] in LONG:
            continue
        for text in one_line_texts(value):
            assert text.isprintable(), f"{path}: {text!r}"
            may = path[0] in ("env", "service", "chip", "weights") or path == ("container", "pid")
            assert text != "" or may, f"{path} is empty"
    # All that was taken can be written, and says the same when it is read again.
    dumped = {path: value for path, value in leaves(found.settings) if not (value == {} and path in MAPPINGS)}
    gone = {path: None for path in KNOWN if path[:-1] in MAPPINGS and path not in dumped}
    again = take(tmp_path, {**gone, **dumped}, {})
    assert again is not None and again.settings == found.settings
    inputs = Inputs(None, "a" * 40, "b" * 40, {})
    release = release_of(found.settings, inputs)
    rendered = render(Material(found.settings, HOSTS, release, inputs, {"node1": "eth0", "node2": "eth1"}))
    for name, data in rendered.files["node1"].items():
        if name.endswith(".yaml"):
            document = yaml.safe_load(data)
            if name.startswith("serve/"):
                arguments = document[0]["engine_args"]
                assert arguments["served_model_name"] == found.settings.engine.served_model_name
                assert arguments["port"] == found.settings.engine.port


@quick(80)
@given(st.sampled_from(LEAVES), VALUES)
def test_a_setting_means_the_same_from_every_source(tmp_path: Path, path: tuple[str, ...], value: object) -> None:
    dotted = ".".join(path)
    by_file = take(tmp_path, {path: value}, {})
    by_flag = take(tmp_path, None, {dotted: value})
    assert (by_file is None) == (by_flag is None)
    assert by_file is None or by_flag is None or by_file.settings == by_flag.settings
    text = value if isinstance(value, str) else json.dumps(value)
    name = "R1DEPLOY_" + "__".join(path).upper()
    by_environment = take(tmp_path, None, {}, **{name: text})
    by_set = take(tmp_path, None, {dotted: value_from_text(dotted, text)})
    assert (by_environment is None) == (by_set is None)
    assert by_environment is None or by_set is None or by_environment.settings == by_set.settings
    if by_file is not None and isinstance(value, int | float | list | bool):
        assert by_environment is not None and by_environment.settings == by_file.settings


@quick(150)
@given(edits(st.just("engine:\n  port: 9010\n  extra: {enforce_eager: true}\nenv:\n  A: b\n"),
             ["\n", "  ", "\t", ":", "- ", "{", "}", "[", "&a ", "*a", "<<: *a", "!!python/name:os.system ",
              "!!int ", "|\n", "#", "'", '"', "---\n", "...", "%YAML 9.9\n", "?", "\ufeff", "\x85", "\x1b", "~",
              "port: 1\n"]))  # fmt: skip
def test_settings_file_by_its_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "r1deploy.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = load(tmp_path, {}, {})
    except R1Error as error:
        ours(error)
    else:
        # Each value says where it comes from, and is what a plain YAML reader finds there.
        document = yamlfile.parse(text, "r1deploy.yaml").data
        for path, value in leaves(found.settings):
            source = found.sources[".".join(path)]
            if source.kind == "file":
                inner: Any = document
                for key in path:
                    inner = inner[key]
                assert inner == value or value == {}


@quick(100)
@given(
    st.text(),
    st.sampled_from(["engine.port", "engine.extra", "engine.trust_remote_code", "env.A", "image.name", "ssh"]),
)
def test_set_on_the_command_line(tmp_path: Path, text: str, path: str) -> None:
    from r1deploy.cli.app import flags_of

    take(tmp_path, None, flags_of([f"{path}={text}"]))
    try:
        flags_of([text])
    except R1Error as error:
        assert error.code in ErrorCode and "=" not in text


# The lock file

HEX = "0123456789abcdef" * 4
LOCK = f"""version: 1
flaggems: {{url: 'https://example.org/a.git', ref: main, commit: {HEX[:40]}}}
patch:
  commit: {HEX[:40]}
  ciphertexts: {{a/b.encrypted: {HEX}}}
image: {{name: 'baai:v5', id: 'sha256:{HEX}', tarball_sha256: {HEX}}}
"""
LOCKS = edits(
    st.just(LOCK),
    [
        "\n",
        " ",
        ":",
        "'",
        "null",
        "1",
        "[]",
        "{}",
        "0",
        "G",
        "\0",
        "\x1b",
        "ab",
        "version: 1\n",
        "<<<<<<< x\n",
        "!!binary ",
    ],
)


@quick(150)
@given(LOCKS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary())
def test_lock_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r1deploy.lock"
    path.write_bytes(data)
    try:
        lock = lockfile.read(path)
    except ConfigError as error:
        assert error.code == "LOCK_INVALID"
        ours(error)
        return
    for part in (lock.flaggems, lock.flagscale, lock.patch):
        assert part is None or re.fullmatch(r"[0-9a-f]{40}", part.commit)
    for digest in (lock.patch.ciphertexts if lock.patch else {}).values():
        assert re.fullmatch(r"[0-9a-f]{64}", digest)
    lockfile.write(path, lock)
    again = lockfile.read(path)
    first = path.read_bytes()
    lockfile.write(path, again)
    assert path.read_bytes() == first
    assert (again.patch, again.image) == (lock.patch, lock.image)


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
