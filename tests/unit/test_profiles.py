"""Profiles: a vendor is data. Nothing of one stands in the code, and what a profile says is checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import r1deploy
from r1deploy import content
from r1deploy.inputs import key, locking
from r1deploy.modes import faults
from r1deploy.planning.desired import device_of
from r1deploy.planning.release import Inputs, release_of
from r1deploy.planning.rolevars import uses_flaggems
from r1deploy.settings import profiles, schema, validation
from r1deploy.settings.load import from_profile, load
from r1deploy.settings.model import Settings

INPUTS = Inputs("sha256:" + "1" * 64, "2" * 40, "3" * 40, {})


def test_the_second_vendors_profile_differs_in_what_matters() -> None:
    first, second = from_profile("iluvatar-bi-v150"), from_profile("metax-c550")
    assert (first.patch.encrypted, second.patch.encrypted) == (True, False)
    assert (first.container.devices, second.container.devices[:2]) == ([], ["/dev/dri", "/dev/mxcd"])
    assert any("bdist_wheel" in command for command in second.vllm.build)
    layers = [int(number) for number in second.env["VLLM_PP_LAYER_PARTITION"].split(",")]
    assert (len(layers), sum(layers)) == (second.engine.pipeline_parallel_size, 61)
    assert first.chip.smi != second.chip.smi and first.chip.smi_pattern != second.chip.smi_pattern


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("/dev/dri", "/dev/dri:/dev/dri:rwm"),
        ("/dev/a:/dev/b", "/dev/a:/dev/b:rwm"),
        ("/dev/a:/dev/b:r", "/dev/a:/dev/b:r"),
    ],
)
def test_a_device_in_full(text: str, full: str) -> None:
    assert device_of(text) == full


def changed(**sections: dict[str, object]) -> Settings:
    data = from_profile("iluvatar-bi-v150").model_dump()
    for name, values in sections.items():
        data[name] = {**data[name], **values}
    return Settings.model_validate(data)


def test_devices_make_another_release_and_none_do_not() -> None:
    base = release_of(changed(), INPUTS)
    assert release_of(changed(container={"devices": []}), INPUTS) == base
    other = release_of(changed(container={"devices": ["/dev/dri"]}), INPUTS)
    assert other.id != base.id and other.flagscale == base.flagscale, "the trees do not depend on the container"


@pytest.mark.parametrize(
    ("name", "pattern", "said"),
    [
        ("smi_pattern", r"(?P<index>\d+), (?P<name>.*)", "lacks group memory, used"),
        ("smi_pattern", "(", "not a regular expression"),
        ("smi_sick_pattern", "GPU", "lacks group 1"),
        ("smi_version_pattern", r"Version: (\S+)", "lacks group 2"),
    ],
)
def test_a_pattern_without_what_is_read_of_it_is_refused(name: str, pattern: str, said: str) -> None:
    found = list(validation.findings(changed(chip={name: pattern})))
    assert [path for path, _ in found] == [("chip", name)]
    assert said in found[0][1]


def test_layers_are_given_for_each_stage() -> None:
    def said(layers: str) -> list[str]:
        return [".".join(path) for path, _ in validation.findings(changed(env={"VLLM_PP_LAYER_PARTITION": layers}))]

    assert said("16,15,15,15") == []
    assert said("31,30") == ["env.VLLM_PP_LAYER_PARTITION"]


@pytest.mark.parametrize(("mode", "refused"), [("vllm", 1), ("ray+vllm", 0), ("flagscale", 0)])
def test_vllm_alone_is_without_ray(mode: str, refused: int) -> None:
    wanted = changed(service={"mode": mode}, engine={"extra": {"distributed_executor_backend": "ray"}})
    assert len(list(faults(wanted))) == refused


# Vendors, their chips, tools and software, as the profiles and FlagScale's hardware folder name them.
VENDORS = re.compile(
    r"iluvatar|ixsmi|ixml|corex|\bbi[-_]?v1\d\d|flagrelease_bi|baai:|metax|mx-?smi|mxcd|\bmaca\b|c550"
    r"|cambricon|cnmon|\bmlu|kunlunxin|xpu_smi|hygon|hy-smi|ascend|npu-smi|mthreads|musa|nvidia",
    re.IGNORECASE,
)


def product_files() -> list[Path]:
    """All that runs or is shipped, but for the profiles and the lab."""
    package = Path(r1deploy.__file__ or "").parent
    apart = (package / "lab", package / "settings" / "profiles", package / "_content")
    found = [path for top in (package, content.PLAYBOOKS, content.ROLES, content.TEMPLATES) for path in top.rglob("*")]
    return sorted(
        {
            path
            for path in found
            if path.is_file() and "__pycache__" not in path.parts and not any(one in path.parents for one in apart)
        }
    )


def test_the_code_names_no_vendor() -> None:
    paths = product_files()
    assert {"gate.py", "probe.py", "r1guest.py", "main.yml", "env.sh.j2"} <= {path.name for path in paths}
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if VENDORS.search(line) and "--hash=sha256:" not in line
    ]
    assert found == []


def test_the_search_for_vendors_finds_them() -> None:
    for name in profiles.names():
        path = Path(profiles.__file__).parent / "profiles" / f"{name}.yaml"
        assert len(VENDORS.findall(path.read_text(encoding="utf-8"))) > 5


NO_PATCH = {"backends": [], "encrypted": True, "commit": "0" * 40}


def test_without_a_patch_nobody_asks_for_a_key_or_a_commit() -> None:
    wanted = changed(patch=NO_PATCH, flagscale={"ref": "3" * 40}, flaggems={"ref": "2" * 40})
    assert locking.patch_paths(wanted) == []
    assert key.key_file(wanted) is None and key.prove_key(wanted, {}) == "no patch is encrypted"
    said: list[str] = []
    lock = locking.resolve(wanted, None, frozenset(), said.append)
    assert lock.patch is not None and lock.patch.ciphertexts == {}
    assert [line for line in said if "patch" in line] == []


def test_without_a_patch_only_the_wheels_are_the_tree() -> None:
    release = release_of(changed(patch=NO_PATCH), INPUTS)
    assert release.flagscale.parts == ("wheels",)
    assert release_of(changed(), INPUTS).flagscale.parts == ("FlagScale/build", "wheels")


def test_vllm_of_the_image_is_proven_and_not_installed() -> None:
    space: dict[str, Any] = {"__name__": "guest"}
    exec(compile((content.HELPERS / "r1guest.py").read_text(encoding="utf-8"), "r1guest.py", "exec"), space)
    asked: list[str] = []

    def in_python(order: object, code: str) -> str:
        asked.append(code)
        return '["0.7.3", {"/x/RECORD": "00"}]'

    def run(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be installed")

    space["in_python"], space["run"] = in_python, run
    part = {"name": "vllm", "dist": "vllm", "tree": "t", "cwd": "/nowhere", "commands": [], "modules": ["vllm"]}
    found = space["install_part"](part, {"log": "/nowhere", "python": "python3", "timeout": 1})
    assert found == {"tree": "t", "version": "0.7.3", "proof": {"/x/RECORD": "00"}}
    assert asked[-1] == "import vllm" and "proof_of" in asked[0]


@pytest.mark.parametrize(("said", "uses"), [("true", True), ("1", True), ("True", True), ("false", False), ("", False)])
def test_whether_the_engine_uses_flaggems(said: str, uses: bool) -> None:
    """Where it does not, nothing has to compute before a deployment goes on."""
    assert uses_flaggems(changed(env={"USE_FLAGGEMS": said})) is uses


PAGE = Path(r1deploy.__file__ or "").parent.parent / "docs" / "profiles.md"
# Whole sections that are a vendor's; of the others the page explains what some profile sets.
VENDORS_OWN = {"chip", "container", "patch"}
# A file of the user's, whatever the vendor.
NOT_IN_A_PROFILE = {"patch.key_dir"}


def fields_of_profiles() -> set[str]:
    """Dotted names of all that a profile sets or may have to set."""
    found = {"service.mode", "service.ray_port"}
    for path, node in schema.nodes().items():
        if node.kind != "section" and path[0] in VENDORS_OWN:
            found.add(".".join(path))
    for name in profiles.names():
        sources = load(Path(), {"profile": name}, {}).sources
        set_here = (tuple(path.split(".")) for path, source in sources.items() if source.kind == "profile")
        # A mapping is one field, whatever its keys.
        found |= {".".join(row[0].path) for path in set_here if (row := schema.find(path))}
    return found - NOT_IN_A_PROFILE


def test_every_field_is_explained_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8").split("## Field by field")[1].split("\n## ")[0]
    fields = fields_of_profiles()
    assert {"chip.smi_pattern", "container.devices", "patch.backends", "env", "slots", "engine.extra"} <= fields
    explained = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", text))
    assert fields - explained == set(), "not explained"
    known = {".".join(path) for path in schema.nodes()}
    dotted = {name for name in explained if "." in name and name.split(".")[1] not in ("sh", "py", "patch")}
    assert dotted - known == set(), "explained, but there is no such setting"


def test_every_profile_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in profiles.names() if f"| `{name}` |" not in text] == []
    assert profiles.default() in profiles.names()
