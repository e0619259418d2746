"""Images and containers as the probe says them, from the engine's answers and real files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from r1deploy.onhost import containers, enginesocket
from r1deploy.planning.observed import Container, Image
from tests.onhost.making import put

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def inspected(name: str, root: Path | None = None, **labels: str) -> dict[str, Any]:
    """What the engine says of a container that is stopped; its files lie in ``root``."""
    device = {"PathOnHost": "/dev/x", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}
    return {
        "Id": name * 8,
        "Name": f"/{name}",
        "Image": ONE,
        "State": {"Running": False, "Pid": 0},
        "Config": {"Labels": {f"r1deploy.{key}": value for key, value in labels.items()}, "Tty": True},
        "HostConfig": {"ShmSize": 1 << 30, "Binds": ["/b:/b", "/a:/a"], "CapAdd": None, "Devices": [device]},
        "GraphDriver": {"Data": {"UpperDir": str(root) if root else None}},
    }


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Answers by path; what is not there is a 404. Fill it."""
    answers: dict[str, Any] = {}

    def get(path: str) -> tuple[int, Any]:
        return (200, answers[path]) if path in answers else (404, {"message": "no such thing"})

    monkeypatch.setattr(enginesocket, "get", get)
    return answers


def lists(engine: dict[str, Any], *rows: dict[str, Any]) -> None:
    """The cluster's containers, which the engine finds by their label."""
    engine["/containers/json?all=1&filters={%22label%22:[%22r1deploy.cluster=lab%22]}"] = rows
    engine.update({f"/containers/{row['Id']}/json": row for row in rows})


def look() -> list[Container]:
    rows = containers.look_containers({"cluster": "lab", "container": "flagrelease_bi"})
    return [Container.model_validate(row) for row in rows]


def test_containers_of_the_cluster_and_the_one_that_has_our_name(engine: dict[str, Any]) -> None:
    lists(engine, inspected("old", cluster="lab", release="r1"), inspected("new", cluster="lab", release="r2"))
    stranger = {**inspected("stranger"), "Name": "/flagrelease_bi"}
    engine["/containers/flagrelease_bi/json"] = engine[f"/containers/{stranger['Id']}/json"] = stranger
    found = look()
    assert [(row.name, row.cluster, row.release) for row in found] == [
        ("flagrelease_bi", None, None), ("new", "lab", "r2"), ("old", "lab", "r1"),
    ]  # fmt: skip
    spec = found[1].spec
    assert (spec["devices"], spec["volumes"], spec["cap_add"]) == (["/dev/x:/dev/x:rwm"], ["/a:/a", "/b:/b"], [])


def test_our_container_under_its_name_counts_once(engine: dict[str, Any]) -> None:
    row = {**inspected("ours", cluster="lab"), "Name": "/flagrelease_bi"}
    lists(engine, row)
    engine["/containers/flagrelease_bi/json"] = row
    assert [found.name for found in look()] == ["flagrelease_bi"]


def test_a_container_that_is_gone_since_the_list(engine: dict[str, Any]) -> None:
    row = inspected("gone", cluster="lab")
    lists(engine, row)
    del engine[f"/containers/{row['Id']}/json"]
    assert look() == []


def test_what_is_installed_in_a_container(engine: dict[str, Any], tmp_path: Path) -> None:
    put(tmp_path / "site" / "RECORD", "files")
    digest = hashlib.sha256(b"files").hexdigest()
    parts = {
        "vllm": {"tree": "t1", "version": "0.1", "proof": {"/site/RECORD": digest}},
        "flagscale": {"tree": "t2", "version": 3, "proof": {"/site/RECORD": "0" * 64}},
        "../x": {"proof": {}},
        "half": None,
    }
    put(tmp_path / "opt" / "r1deploy" / "installed.json", json.dumps({"parts": parts}))
    lists(engine, inspected("a", tmp_path, cluster="lab", release="r1"), inspected("b", tmp_path, cluster="lab"))
    ours, without_release = look()
    assert ours.installed is not None and without_release.installed is None
    assert {name: (part.tree, part.version, part.intact) for name, part in ours.installed.parts.items()} == {
        "vllm": ("t1", "0.1", True),
        "flagscale": ("t2", None, False),
    }


@pytest.mark.parametrize("text", ["", "[]", '{"parts": []}'])
def test_a_record_that_is_none(tmp_path: Path, text: str) -> None:
    put(tmp_path / "opt" / "r1deploy" / "installed.json", text)
    assert containers.installed_in(str(tmp_path)) is None


def test_the_files_of_a_running_container_are_seen_through_its_process() -> None:
    assert containers.container_root({"State": {"Pid": 4711}, "GraphDriver": {}}) == "/proc/4711/root"
    assert containers.container_root({"State": {}, "GraphDriver": {"Data": None}}) is None


def test_an_image_and_its_digests(engine: dict[str, Any]) -> None:
    assert containers.look_image("baai:v5") is None
    engine["/images/baai:v5/json"] = {
        "Id": ONE, "Architecture": "amd64", "RepoDigests": [f"a@{TWO}", f"b@{TWO}", "broken"],
    }  # fmt: skip
    found = Image.model_validate(containers.look_image("baai:v5"))
    assert (found.id, found.arch, found.digests) == (ONE, "amd64", (TWO,))
