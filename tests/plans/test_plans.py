"""The planner against made-up clusters: each case is a file that says what differs and what must come of it.

A case starts from ``base.json``, a converged cluster of two hosts, and changes it:

``hosts``      names that are in the cluster (default: all of base.json), or new ones with their values
``silent``     hosts that did not answer the probe
``settings``   dotted path → value; ``lock`` likewise (image, manifest, arch, packed, flaggems, flagscale)
``observed``   host (or ``all``) → dotted path → value; ``$absent`` takes a key away
``changes``    all changes that are expected: step, host (or a list), field (a part of it), current, desired
``blockers``   all failed checks that are expected: code, host (null: the cluster), blocks, detail (a part of it)
``row``        the row of field.md that this is the right result of
``warnings``   all codes of warnings that are expected, where the case speaks of them
``noops``      some reasons that are expected: step, host, reason (a part of it)
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import yaml

from r1deploy.cluster.host import Host
from r1deploy.observe.view import desire
from r1deploy.planning import clusterchecks, diagcheck, disturbing, hostchecks, steplooks
from r1deploy.planning.desired import Desired, known_hosts
from r1deploy.planning.observed import observed_of
from r1deploy.planning.planner import Plan, plan
from r1deploy.planning.steps import STEPS
from r1deploy.settings import load
from r1deploy.settings.lockfile import Lock, LockedImage, LockedPatch, LockedSource
from r1deploy.settings.model import Settings
from r1deploy.ui.planlines import done_lines

HERE = Path(__file__).parent
BASE: dict[str, Any] = json.loads((HERE / "base.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((HERE / "cases").glob("*.yaml"))
}
# What makes changes and findings.
MAKERS: tuple[Any, ...] = (steplooks, disturbing, hostchecks, clusterchecks, diagcheck)
KEYS = {"title", "row", "hosts", "silent", "settings", "lock", "observed", "changes", "blockers", "warnings", "noops"}
ABSENT = "$absent"


def put(target: Any, path: str, value: Any) -> None:
    """Set what a dotted path names; keys may hold dots themselves (the longest key that is there wins)."""
    words = path.split(".")
    while True:
        if isinstance(target, list):
            key: Any = int(words.pop(0))
        else:
            fits = [n for n in range(len(words), 0, -1) if ".".join(words[:n]) in target]
            take = fits[0] if fits else len(words)
            key = ".".join(words[:take])
            del words[:take]
        if not words:
            break
        target = target[key]
    if value == ABSENT:
        del target[key]
    elif isinstance(target, list) and key == len(target):
        target.append(value)
    else:
        target[key] = value


def fill(value: Any, names: Mapping[str, Any]) -> Any:
    """Replace ``$name`` in keys and values; a value that is nothing else may become any object."""
    if isinstance(value, dict):
        return {fill(key, names): fill(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, names) for item in value]
    if isinstance(value, str) and "$" in value and value != ABSENT:
        if value[1:] in names:
            return copy.deepcopy(names[value[1:]])
        for name in sorted(names, key=len, reverse=True):
            if isinstance(names[name], str):
                value = value.replace(f"${name}", names[name])
        assert "$" not in value, f"unknown name in {value}"
    return value


def settings_of(*overrides: Mapping[str, Any]) -> Settings:
    """The profile's settings with dotted overrides."""
    data = load.from_profile("iluvatar-bi-v150").model_dump()
    for override in overrides:
        for path, value in override.items():
            put(data, path, value)
    return Settings.model_validate(data)


def lock_of(settings: Settings, data: Mapping[str, str | None]) -> Lock:
    """A lock in which everything but perhaps the image is resolved."""
    sources = {
        name: LockedSource(url=row.url, ref=row.ref, commit=data[name] or "")
        for name, row in (("flaggems", settings.flaggems), ("flagscale", settings.flagscale))
    }
    extra = {key: data[key] for key in ("manifest", "arch", "packed") if key in data}
    image = LockedImage(name=settings.image.name, id=data["image"], **extra) if data["image"] else None
    return Lock(**sources, image=image, patch=LockedPatch(commit=settings.patch.commit))


def hosts_of(case: Mapping[str, Any]) -> tuple[Host, ...]:
    wanted = case.get("hosts") or list(BASE["hosts"])
    rows = wanted if isinstance(wanted, dict) else dict.fromkeys(wanted)
    return tuple(Host(name, **{**BASE["hosts"].get(name, {}), **(row or {})}) for name, row in rows.items())


def desired_of(settings: Settings, lock: Lock, hosts: tuple[Host, ...], nics: Mapping[str, str | None]) -> Desired:
    """As the actions make it; of the probe's answer only the interfaces count."""
    state = SimpleNamespace(releases={})
    seen = {name: SimpleNamespace(net=SimpleNamespace(nic=nic), state=state) for name, nic in nics.items()}
    return desire(settings, lock, SimpleNamespace(hosts=hosts, observed=seen))[0]  # type: ignore[arg-type]


def names_of(desired: Desired, host: Host) -> dict[str, Any]:
    """What ``$name`` stands for."""
    keys = {row.name: (f"ssh-ed25519 HOSTKEY-{row.name}",) for row in desired.hosts}
    return {
        "name": host.name,
        "state": desired.settings.state_dir,
        "address": host.address,
        "image": desired.image_id,
        "release": desired.release.id,
        "config": desired.config_id,
        "flaggems": desired.release.flaggems.name,
        "flagscale": desired.release.flagscale.name,
        "flaggems_commit": desired.flaggems_commit,
        "flagscale_commit": desired.flagscale_commit,
        "patch_key": desired.release.patch_key,
        "line": desired.authorized_line("ssh-ed25519 CLUSTERKEY", None),
        "known_hosts": hashlib.sha256(known_hosts(desired.workers, keys).encode()).hexdigest(),
        "spec": desired.container_spec,
        "folders": dict(desired.folders),
        "helpers": dict(desired.helpers),
        "files": {name: [file.sha256, file.mode] for name, file in desired.configs[host.name].items()},
    }


def run(case: Mapping[str, Any]) -> tuple[Plan, Desired]:
    """Plan a case: the state is converged for the base's settings, then the overrides change it."""
    hosts = hosts_of(case)
    base = settings_of(BASE["settings"])
    before = desired_of(base, lock_of(base, BASE["lock"]), hosts, dict.fromkeys((row.name for row in hosts), "eth0"))
    raw: dict[str, Any] = {}
    for host in hosts:
        if host.name in case.get("silent", ()):
            continue
        names = names_of(before, host)
        found = fill(BASE["observed"], names)
        layers = [BASE["on_head"] if host.is_head else BASE["on_workers"]]
        layers += [BASE["on_builder"]] if host == before.builder else []
        layers += [case.get("observed", {}).get(key, {}) for key in ("all", host.name)]
        for layer in layers:
            for path, value in fill(layer, names).items():
                put(found, path, value)
        raw[host.name] = found
    settings = settings_of(BASE["settings"], case.get("settings", {}))
    lock = lock_of(settings, {**BASE["lock"], **case.get("lock", {})})
    desired = desired_of(settings, lock, hosts, {name: found["net"]["nic"] for name, found in raw.items()})
    return plan(desired, {name: observed_of(found) for name, found in raw.items()}), desired


def spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with a list of hosts as one row a host."""
    listed = [(row, row["host"] if isinstance(row["host"], list) else [row["host"]]) for row in rows]
    return [{**row, "host": host} for row, hosts in listed for host in hosts]


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    assert set(case) <= KEYS and case["title"]
    found, desired = run(case)
    for host in desired.hosts:
        names = names_of(desired, host)
        answered = host.name not in case.get("silent", ())
        expected = [fill(row, names) for row in spread(case["changes"]) if row["host"] == host.name]
        actual = [row for row in found.changes if row.host == host.name]
        left = list(actual)
        for row in expected:
            assert set(row) <= {"step", "host", "field", "current", "desired", "reason"}
            fits = [
                change
                for change in left
                if change.step == row["step"]
                and row["field"] in change.field
                and row.get("current", change.current) == change.current
                and row.get("desired", change.desired) == change.desired
                and row.get("reason", "") in change.reason
            ]
            assert fits, f"expected {row}, planned {actual}"
            left.remove(fits[0])
        assert left == [], "changes that the case does not expect"
        # A step has either something to do on a host or one reason why it has not.
        idle = Counter(row.step for row in found.noops if row.host == host.name)
        busy = {row.step for row in actual}
        assert idle == Counter(step for step in STEPS if answered and step not in busy)
        assert all(row.current != row.desired for row in actual)
    for row in case.get("noops", []):
        assert any(
            noop.step == row["step"] and noop.host == row["host"] and row["reason"] in noop.reason
            for noop in found.noops
        ), row
    if "warnings" in case:
        assert [check.code for check in found.checks if check.warning] == case["warnings"]
    assert all(check.ok and check.fix and not check.blocks for check in found.checks if check.warning)
    failed = [check for check in found.checks if not check.ok]
    wanted = [(row["code"], row.get("host")) for row in spread(case["blockers"])]
    assert Counter((check.code, check.host) for check in failed) == Counter(wanted), failed
    for row in spread(case["blockers"]):
        mine = [check for check in failed if (check.code, check.host) == (row["code"], row["host"])]
        assert any(row.get("detail", "") in check.detail for check in mine), mine
        assert all(check.fix for check in mine), "a blocker without a way out"
        for verb in ("bootstrap", "serve"):
            assert (verb in row["blocks"]) == all(check in found.blockers(verb) for check in mine), (verb, row)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.get("silent")])
def test_bootstrap_ends_with_what_serve_would_say(name: str) -> None:
    """field.md 6.12: one truth about what forbids to serve."""
    found, desired = run(CASES[name])
    view: Any = SimpleNamespace(plan=found, desired=desired, probed=SimpleNamespace(failures={}))
    said = " ".join("\n".join(done_lines(found, view, False)).split())
    refused = [row["code"] for row in spread(CASES[name].get("blockers", [])) if "serve" in row["blocks"]]
    assert ("Ready to serve." in said, "Not ready to serve:" in said) == (not refused, bool(refused))
    assert [code for code in refused if f"{code}: " not in said] == []


def test_enough_cases() -> None:
    assert len(CASES) >= 45
    titles = [case["title"] for case in CASES.values()]
    assert len(titles) == len(set(titles))


def test_changes_come_in_the_order_of_steps_then_of_hosts() -> None:
    found, desired = run(CASES["nothing-is-there"])
    hosts = [host.name for host in desired.hosts]
    order = [(STEPS.index(row.step), hosts.index(row.host)) for row in found.changes]
    assert order == sorted(order) and {step for step, _ in order} == set(range(len(STEPS)))


def test_converged_case_says_why_for_each_step_and_host() -> None:
    found, desired = run(CASES["converged"])
    assert found.changes == () and [check for check in found.checks if not check.ok] == []
    assert [(row.step, row.host) for row in found.noops] == [
        (step, host.name) for step in STEPS for host in desired.hosts
    ]
    assert all(row.reason for row in found.noops)


def literal_codes(path: Path) -> set[str]:
    """Codes that stand in a Check or in a call or assignment that leads to one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if len(text) > 5 and text.isupper() and text.replace("_", "").isalnum():
                found.add(text)
    return found


def test_every_code_of_a_check_blocks_some_case() -> None:
    codes = {code for module in MAKERS for code in literal_codes(Path(module.__file__))}
    assert {"TOPOLOGY", "SERVICE_RUNNING", "DRIVER_DIFFERS"} <= codes, "the search finds too little"
    assert codes - {row["code"] for case in CASES.values() for row in case["blockers"]} == set()


def test_every_step_has_a_change_in_some_case() -> None:
    assert set(STEPS) - {row["step"] for case in CASES.values() for row in case["changes"]} == set()


def outcomes(path: Path) -> set[int]:
    """Lines where a change, a reason or a finding is made."""
    lines = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Yield):
            lines.add(node.lineno)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "rows.append":
            lines.add(node.lineno)
    return lines


def test_every_line_that_makes_a_change_or_a_finding_runs_in_some_case() -> None:
    wanted = {(module.__file__, line) for module in MAKERS for line in outcomes(Path(module.__file__))}
    seen: set[tuple[str, int]] = set()
    files = {module.__file__ for module in MAKERS}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for case in CASES.values():
            run(case)
    finally:
        sys.settrace(before)
    assert {f"{Path(name).name}:{line}" for name, line in wanted - seen} == set()
