"""The whole probe: one line, all parts, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1deploy.onhost import containers, probe
from r1deploy.planning.observed import Observed
from r1deploy.settings.load import from_profile

CHIP = from_profile("iluvatar-bi-v150").chip


def test_the_whole_script_prints_one_marked_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = {
        "address": "127.0.0.1", "numbers": [], "cluster": "x", "container": "r1-no-such", "image": "r1-no-such",
        "ports": [1], "state_dir": str(tmp_path / "state"), "folders": [str(tmp_path), "/no/such"],
        "trust_user": "root", "lock": str(tmp_path / "lock"), "remote_tmp": ".r1deploy-tmp",
        "weights": None, "chip": {**CHIP.model_dump(), "smi": ["/nowhere"]}, "seconds": 30, "limit": 1 << 20,
    }  # fmt: skip
    containers.look_engine, before = (lambda: {"ok": False, "error": "not asked"}), containers.look_engine
    try:
        probe.main(json.dumps(request))
    finally:
        containers.look_engine = before
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.startswith("r1probe:")
    found = Observed.model_validate(json.loads(out.removeprefix("r1probe:")))
    assert found.state.exists is False and found.state.folders["/no/such"] is None
    assert list(tmp_path.iterdir()) == [], "the probe writes nothing"


def test_the_parts_are_those_that_the_controller_reads() -> None:
    request = {"state_dir": "/no/such"}
    names = [name for names, _ in probe.jobs_of(request) for name in names]
    read = {field.alias or name for name, field in Observed.model_fields.items()}
    assert {*names, "schema", "problems"} == read
    assert len(names) == len(set(names))
